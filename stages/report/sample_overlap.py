"""Mark the parts of samples that occur verbatim in the training text."""

import re
from dataclasses import dataclass
from itertools import groupby

from stages.metrics.memorization import Overlap, TrainingText, verbatim_overlap


@dataclass(frozen=True)
class MarkedSamples:
    """Samples divided into pieces.

    Attributes:
        samples: the pieces of each sample, and whether they occur in the training text.
        overlap: of all samples.
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


def split_samples(text: str) -> list[str]:
    """Return the samples in the content of reports/samples.txt."""
    parts = re.split(r"^--- sample \d+ ---\n", text, flags=re.MULTILINE)[1:]
    return [part.removesuffix("\n") for part in parts]
