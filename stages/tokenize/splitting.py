"""Split a text into a training and a validation part."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.documents import DocumentTable
from stages.core.errors import TextError

MAX_DEVIATION = 1.5


@dataclass(frozen=True)
class Span:
    """The characters `start` … `end` of a text, and how often training samples them."""

    start: int
    end: int
    weight: float = 1.0


def split_sources(
    documents: DocumentTable, length: int, val_fraction: float, path: Path
) -> tuple[list[Span], list[Span]]:
    """Return the training and the validation spans of a text: the first and the last documents of every source.

    Args:
        documents: the document table of the text.
        length: characters in the text.
        val_fraction: share of each source that becomes validation text, above 0 and below 1.
        path: path of the text, for error messages.

    Raises:
        TextError: if a part would have fewer than two characters, so that nothing could be predicted.
    """
    if documents["start"][-1] >= length:
        raise TextError(
            f"{path} has {length} characters, but its last document begins at {documents['start'][-1]}; "
            "`dvc repro -f download` writes both again"
        )
    train, val = [], []
    first_documents = np.flatnonzero(np.diff(documents["source"], prepend=-1))
    bounds = [*documents["start"][first_documents].tolist(), length]
    for index, first in enumerate(first_documents.tolist()):
        start, end = bounds[index : index + 2]
        weight = float(documents["weight"][first])
        starts = documents["start"][documents["source"] == documents["source"][first]]
        name = f"source {index + 1} of {path}" if len(first_documents) > 1 else str(path)
        cut = start + split_point(end - start, val_fraction, name, starts - start)
        train.append(Span(start, cut, weight))
        val.append(Span(cut, end))
    return train, val


def split_point(length: int, val_fraction: float, name: str, starts: NDArray[np.int64] | None = None) -> int:
    """Return the number of characters of the training part.

    With several documents, the split is at the nearest beginning of a document, so that no document is in both parts,
    unless the share of validation text would then differ from `val_fraction` by more than a factor of MAX_DEVIATION.

    Args:
        length: characters in the text.
        val_fraction: share of validation text, above 0 and below 1.
        name: name of the text, for error messages.
        starts: first character of each document.

    Raises:
        TextError: if a part would have fewer than two characters.
    """
    cut = int((1 - val_fraction) * length)
    if starts is not None and len(starts) > 1:
        inner = starts[1:]
        boundary = int(inner[np.abs(inner - cut).argmin()])
        share = (length - boundary) / length
        if val_fraction / MAX_DEVIATION <= share <= val_fraction * MAX_DEVIATION:
            cut = boundary
    if min(cut, length - cut) < 2:
        raise TextError(
            f"{name} is too short: with tokenize.val_fraction = {val_fraction}, {cut} of its {length} characters are "
            f"for training and {length - cut} for validation, but each part needs at least 2; use a longer text"
        )
    return cut


def read_spans(chunks: Iterable[str], spans: Sequence[Span]) -> Iterator[Iterator[str]]:
    """Yield the text of each span in chunks; each must be consumed before the next one is requested."""
    reader = TextReader(chunks)
    for span in spans:
        for _ in reader.read_to(span.start):
            pass
        yield reader.read_to(span.end)


class TextReader:
    """Read a text given in chunks up to requested positions."""

    def __init__(self, chunks: Iterable[str]) -> None:
        self.chunks, self.rest, self.position = iter(chunks), "", 0

    def read_to(self, end: int) -> Iterator[str]:
        """Yield the text from the current position to character `end`."""
        while self.position < end:
            chunk = self.rest or next(self.chunks, None)
            if chunk is None:
                return
            part, self.rest = chunk[: end - self.position], chunk[end - self.position :]
            self.position += len(part)
            yield part
