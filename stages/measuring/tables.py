"""Tables as TSV, which `dvc plots` and every spreadsheet read."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from stages import files


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[int | float | str]]) -> None:
    """Write a table with a head; floats with six significant digits."""
    lines = ["\t".join(columns), *("\t".join(map(_cell, row)) for row in rows)]
    files.write_text(path, "\n".join(lines) + "\n")


def _cell(value: float | str) -> str:
    return str(value) if isinstance(value, int | str) else f"{value:.6g}"
