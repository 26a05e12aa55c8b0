"""Tables of the notebook's arrays, with a caption and decoded values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class LabelledTable:
    """A table and its caption."""

    label: str
    frame: pd.DataFrame


def in_rows(values: Sequence[Any], width: int) -> pd.DataFrame:
    """Return `values` in rows of `width`; the last row is padded with blanks."""
    padded = [*values, *[""] * (-len(values) % width)]
    rows = [padded[start : start + width] for start in range(0, len(padded), width)]
    return pd.DataFrame(rows, columns=range(width), dtype=object)


def label_table(label: str, frame: pd.DataFrame, decode: Callable[[int], str] | None = None) -> LabelledTable:
    """Return a table with a caption; with `decode`, such as id to character, each row is followed by a decoded row."""
    if decode is None:
        return LabelledTable(label, frame)
    rows: list[list[Any]] = []
    index: list[str] = []
    for name, row in frame.iterrows():
        rows += [list(row), ["" if cell == "" else repr(decode(int(cell))) for cell in row]]
        index += [str(name), ""]
    return LabelledTable(label, pd.DataFrame(rows, index=index, columns=frame.columns, dtype=object))
