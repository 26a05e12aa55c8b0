"""The notebook's tables: an array in rows, and what its numbers stand for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd


def in_rows(values: Sequence[Any], width: int) -> pd.DataFrame:
    """Lay `values` out in rows of `width`; the last row is padded with blanks where it is not full."""
    padded = [*values, *[""] * (-len(values) % width)]
    rows = [padded[start : start + width] for start in range(0, len(padded), width)]
    return pd.DataFrame(rows, columns=range(width), dtype=object)


@dataclass(frozen=True)
class Labelled:
    """A table and the label that it is shown under."""

    label: str
    frame: pd.DataFrame


def labelled(label: str, frame: pd.DataFrame, decode: Callable[[int], str] | None = None) -> Labelled:
    """Put a table under a label; with `decode`, such as id to character, a decoded row comes below each row."""
    if decode is None:
        return Labelled(label, frame)
    rows: list[list[Any]] = []
    index: list[str] = []
    for name, row in frame.iterrows():
        rows += [list(row), ["" if cell == "" else repr(decode(int(cell))) for cell in row]]
        index += [str(name), ""]
    return Labelled(label, pd.DataFrame(rows, index=index, columns=frame.columns, dtype=object))
