"""Which parts of a text train and which validate."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.documents import Documents
from stages.core.errors import TextError


@dataclass(frozen=True)
class Span:
    """Characters `start` … `end` of a text, and how often training draws from them."""

    start: int
    end: int
    weight: float = 1.0


def divide(documents: Documents, count: int, val_fraction: float, path: Path) -> tuple[list[Span], list[Span]]:
    """Give what trains and what validates of a text: of every source its first documents, and its last ones.

    Args:
        documents: what is known of them.
        count: of the text's characters.
        val_fraction: that validates, of each source; above 0 and below 1.
        path: of the text, for the message.

    Raises:
        TextError: where a part would hold fewer than two characters, so that nothing could be predicted.
    """
    train, val = [], []
    firsts = np.flatnonzero(np.diff(documents["source"], prepend=-1))
    bounds = [*documents["start"][firsts].tolist(), count]
    for index, first in enumerate(firsts.tolist()):
        start, end = bounds[index : index + 2]
        weight = float(documents["weight"][first])
        starts = documents["start"][documents["source"] == documents["source"][first]]
        name = f"source {index + 1} of {path}" if len(firsts) > 1 else str(path)
        cut = start + cut_at(end - start, val_fraction, name, starts - start)
        train.append(Span(start, cut, weight))
        val.append(Span(cut, end))
    return train, val


def cut_at(count: int, val_fraction: float, name: str, starts: NDArray[np.int64] | None = None) -> int:
    """Give how many of `count` characters train; the rest, about `val_fraction` of them, validates.

    Where there are several documents, the cut is where the nearest one begins, so that none is in both parts.

    Args:
        count: of characters.
        val_fraction: above 0 and below 1.
        name: of the text, for the message.
        starts: the characters at which documents begin.

    Raises:
        TextError: where a part would hold fewer than two characters, so that nothing could be predicted.
    """
    cut = int((1 - val_fraction) * count)
    if starts is not None and len(starts) > 1:
        inner = starts[1:]
        cut = int(inner[np.abs(inner - cut).argmin()])
    if min(cut, count - cut) < 2:
        raise TextError(
            f"{name} has {count} characters: divided at tokenize.val_fraction = {val_fraction}, {cut} train "
            f"and {count - cut} validate, and both need 2 or more; give a longer text"
        )
    return cut


def within(pieces: Iterable[str], spans: Sequence[Span]) -> Iterator[tuple[Span, Iterator[str]]]:
    """Give the text of each span, in pieces, one span after the other: each is to be read before the next."""
    reader = Reader(pieces)
    for span in spans:
        for _ in reader.up_to(span.start):
            pass
        yield span, reader.up_to(span.end)


class Reader:
    """Reads a text in pieces that end where they are asked to."""

    def __init__(self, pieces: Iterable[str]) -> None:
        self.pieces, self.left, self.at = iter(pieces), "", 0

    def up_to(self, end: int) -> Iterator[str]:
        """Give the text from where it stands to a character."""
        while self.at < end:
            piece = self.left or next(self.pieces, None)
            if piece is None:
                return
            part, self.left = piece[: end - self.at], piece[end - self.at :]
            self.at += len(part)
            yield part
