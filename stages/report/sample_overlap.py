"""Mark the parts of samples that occur verbatim in the training text."""

import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from stages.core.display import escape_controls
from stages.core.errors import TextError
from stages.metrics.memorization import Overlap, TrainingText, verbatim_overlap


@dataclass(frozen=True)
class MarkedSamples:
    """Samples divided into pieces.

    Attributes:
        samples: the pieces of each sample, and whether they occur in the training text.
        overlap: overlap of all samples.
    """

    samples: list[list[tuple[str, bool]]]
    overlap: Overlap


def mark_overlap(samples: list[str], training_text: TrainingText) -> MarkedSamples:
    """Return the samples with the parts that occur in the training text marked."""
    overlap = verbatim_overlap(samples, training_text)
    pieces = [
        [
            ("".join(character for character, _ in group), is_copied)
            for is_copied, group in groupby(zip(sample, mask.tolist(), strict=True), key=lambda pair: pair[1])
        ]
        for sample, mask in zip(samples, overlap.masks, strict=True)
    ]
    return MarkedSamples(pieces, overlap)


def one_break_per_line(pieces: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Return the pieces of a sample to show: all line endings as line feeds, control characters visible."""
    following = [text[:1] for text, _ in pieces[1:]] + [""]
    return [
        (escape_controls(re.sub("\r\n?", "\n", text.removesuffix("\r") if after == "\n" else text)), is_copied)
        for (text, is_copied), after in zip(pieces, following, strict=True)
    ]


def read_samples(path: Path) -> list[str]:
    """Return the samples in reports/samples.txt; a model of bytes may have written any of them.

    Raises:
        TextError: if the file is missing.
    """
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; run `dvc repro sample` to write it") from None
    parts = re.split(r"^--- sample \d+ ---\n", text, flags=re.MULTILINE)[1:]
    return [part.removesuffix("\n") for part in parts]
