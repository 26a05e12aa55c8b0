"""Samples with what stands in the training text marked."""

import re
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor

from stages.metrics.memorization import Copied, Known, copied
from stages.tokenizers.base import Tokenizer


@dataclass(frozen=True)
class Marked:
    """Samples, each as pieces of text with whether they are copied, and how much of all is."""

    samples: list[list[tuple[str, bool]]]
    found: Copied


def marked(samples: list[str], train: Tensor, tokenizer: Tokenizer) -> Marked:
    """Look every sample up in the training text, (N,)."""
    found = copied(samples, Known(train.cpu().numpy(), tokenizer))
    pieces = [
        [
            ("".join(character for character, _ in group), mark)
            for mark, group in groupby(zip(text, marks.tolist(), strict=True), key=lambda pair: pair[1])
        ]
        for text, marks in zip(samples, found.marks, strict=True)
    ]
    return Marked(pieces, found)


def split_samples(text: str) -> list[str]:
    """Take the samples out of reports/samples.txt."""
    return [each.removesuffix("\n") for each in re.split(r"^--- sample \d+ ---\n", text, flags=re.MULTILINE)[1:]]
