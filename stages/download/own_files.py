"""A user's own texts, whatever they are kept in, as pieces of documents.

Text (.txt), JSON Lines (.jsonl, .ndjson) and Parquet (.parquet) with a column of text; the first two may be compressed
(.gz, .bz2, .xz, .zst where zstandard is installed). Every text file, line and row is a document.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]

from stages.core.errors import TextError
from stages.core.text_files import decoded

COMPRESSIONS = {".gz", ".bz2", ".xz", ".zst"}
KINDS = {".txt", ".jsonl", ".ndjson", ".parquet"}
ROWS = 1000  # at once
SHOWN = 10  # files in a message


@dataclass(frozen=True)
class Piece:
    """Text, whether a document begins with it, and which source it is of: its number, and its weight in training."""

    text: str
    begins: bool
    source: int = 0
    weight: float = 1.0


def own_pieces(folder: Path, column: str, sources: Mapping[str, float]) -> Iterator[Piece]:
    """Give the documents of the files below `folder`, source by source, by path.

    Args:
        folder: with files in it or in folders below.
        column: of JSON Lines and Parquet files, that holds the text.
        sources: patterns of paths below `folder`, in which `*` stands for anything, with their weights; a file belongs
            to the first that it fits, and is left out where it fits none.

    Raises:
        TextError: where a source has no file of a known kind, or one cannot be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and kind_of(path) in KINDS)
    if not files:
        raise TextError(
            f"download.corpus is 'own', but there is no file of a kind that is known in {folder}/ "
            f"({', '.join(sorted(KINDS))}, also compressed): put your text there"
        )
    names = [path.relative_to(folder).as_posix() for path in files]
    belongs = [next((each for each in sources if fnmatchcase(name, each)), None) for name in names]
    for number, (pattern, weight) in enumerate(sources.items()):
        chosen = [path for path, owner in zip(files, belongs, strict=True) if owner == pattern]
        if not chosen:
            raise TextError(
                f"download.sources: no file in {folder}/ is of '{pattern}' and of none before it; there are: "
                f"{', '.join(names[:SHOWN])}"
            )
        for path in chosen:
            for piece in pieces_of(path, column):
                yield replace(piece, source=number, weight=weight)


def pieces_of(path: Path, column: str) -> Iterator[Piece]:
    """Give the documents of one file; empty ones are left out."""
    if kind_of(path) == ".txt":
        yield from _of_text(path)
        return
    rows = _of_parquet(path, column) if kind_of(path) == ".parquet" else _of_json_lines(path, column)
    for number, value in enumerate(rows, 1):
        if not isinstance(value, str):
            raise TextError(f"{path}: row {number} has {value!r} in column '{column}', and a text is needed")
        if value:
            yield Piece(value, begins=True)


def kind_of(path: Path) -> str:
    """Give a file's kind as its ending, that of a compression left out."""
    endings = [each.lower() for each in path.suffixes]
    if endings and endings[-1] in COMPRESSIONS:
        endings.pop()
    return endings[-1] if endings else ""


def _of_text(path: Path) -> Iterator[Piece]:
    begins = True
    try:
        with fsspec.open(str(path), "rb", compression="infer") as file:
            for text in decoded(file, path):
                yield Piece(text, begins)
                begins = False
    except (OSError, EOFError, ValueError) as error:
        raise TextError(f"{path} cannot be read ({error}); is it whole, and what its ending says?") from None


def _of_json_lines(path: Path, column: str) -> Iterator[Any]:
    import pandas as pd  # two seconds that a plain text need not wait for

    try:
        with pd.read_json(path, lines=True, chunksize=ROWS, compression="infer", dtype=False) as frames:
            for frame in frames:
                yield from _column(frame, column, path)
    except (ValueError, OSError, EOFError) as error:
        raise TextError(f"{path} is not JSON Lines ({error}); each line must be an object with '{column}'") from None


def _of_parquet(path: Path, column: str) -> Iterator[Any]:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]
    except ImportError:
        raise TextError(f"{path}: Parquet needs pyarrow; pip install -e '.[parquet]'") from None
    try:
        file = parquet.ParquetFile(path)
        _check(column, file.schema_arrow.names, path)
        for batch in file.iter_batches(ROWS, columns=[column]):
            yield from batch.column(0).to_pylist()
    except (ArrowException, OSError) as error:
        raise TextError(f"{path} cannot be read as Parquet ({error})") from None


def _column(frame: Any, column: str, path: Path) -> Iterable[Any]:  # noqa: ANN401 - a pandas frame
    _check(column, list(frame.columns), path)
    values: Iterable[Any] = frame[column].tolist()
    return values


def _check(column: str, known: list[str], path: Path) -> None:
    if column not in known:
        raise TextError(f"{path} has no column '{column}' (it has: {', '.join(map(str, known))}); set download.column")
