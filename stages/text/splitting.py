"""Which part of a text trains and which validates."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from stages.errors import TextError
from stages.text.tokenizers.base import Ids


def cut_at(count: int, val_fraction: float, path: Path, starts: Ids | None = None) -> int:
    """Give how many of `count` characters train; the rest, about `val_fraction` of them, validates.

    Where there are several documents, the cut is where the nearest one begins, so that none is in both parts.

    Args:
        count: of characters.
        val_fraction: above 0 and below 1.
        path: of the text, for the message.
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
            f"{path} has {count} characters: divided at tokenize.val_fraction = {val_fraction}, {cut} train "
            f"and {count - cut} validate, and both need 2 or more; give a longer text"
        )
    return cut


def split_at(pieces: Iterable[str], cut: int) -> tuple[Iterator[str], Iterator[str]]:
    """Give a text in pieces up to a character, and from there on; the second is there once the first has been read."""
    whole, left = iter(pieces), list[str]()

    def first() -> Iterator[str]:
        start = 0
        for piece in whole:
            yield piece[: cut - start]
            start += len(piece)
            if start >= cut:
                left.append(piece[len(piece) - (start - cut) :])
                return

    def second() -> Iterator[str]:
        yield from left
        yield from whole

    return first(), second()
