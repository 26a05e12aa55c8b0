"""Read a user's own texts from text, JSON Lines and Parquet files.

Every text file (.txt), line (.jsonl, .ndjson) and row (.parquet) is a document. Text and JSON Lines may be compressed
(.gz, .bz2, .xz, and .zst if zstandard is installed).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]

from stages.core.errors import TextError
from stages.core.text_files import decode_file

COMPRESSION_SUFFIXES = {".gz", ".bz2", ".xz", ".zst"}
TEXT_SUFFIXES = {".txt", ".jsonl", ".ndjson", ".parquet"}
ROWS_PER_BATCH = 1000
MAX_NAMES_IN_MESSAGE = 10


@dataclass(frozen=True)
class DocumentChunk:
    """A part of a document.

    Attributes:
        text: the text of the part.
        begins_document: whether the document begins with it.
        source: number of the source that the document is from.
        weight: how often training samples the source.
    """

    text: str
    begins_document: bool
    source: int = 0
    weight: float = 1.0


def read_own_files(folder: Path, column: str, sources: Mapping[str, float]) -> Iterator[DocumentChunk]:
    """Yield the documents of the files in `folder` and below, source by source, sorted by path.

    Args:
        folder: the folder of the files.
        column: the column of JSON Lines and Parquet files that holds the text.
        sources: patterns of paths relative to `folder`, in which `*` matches anything, with their weights. A file
            belongs to the first pattern that it matches, and is skipped if it matches none.

    Raises:
        TextError: if a source has no file of a supported type, or a file cannot be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and text_suffix(path) in TEXT_SUFFIXES)
    if not files:
        raise TextError(
            f"download.corpus is 'own', but {folder}/ has no file of a supported type "
            f"({', '.join(sorted(TEXT_SUFFIXES))}; text and JSON Lines also compressed); add your text there"
        )
    names = [path.relative_to(folder).as_posix() for path in files]
    owners = [next((pattern for pattern in sources if fnmatchcase(name, pattern)), None) for name in names]
    for number, (pattern, weight) in enumerate(sources.items()):
        matching = [path for path, owner in zip(files, owners, strict=True) if owner == pattern]
        if not matching:
            raise TextError(
                f"download.sources: no file in {folder}/ matches '{pattern}' and no earlier pattern; the files are: "
                f"{', '.join(names[:MAX_NAMES_IN_MESSAGE])}"
            )
        for path in matching:
            for chunk in read_documents_of(path, column):
                yield replace(chunk, source=number, weight=weight)


def read_documents_of(path: Path, column: str) -> Iterator[DocumentChunk]:
    """Yield the documents of one file; empty ones are skipped."""
    if text_suffix(path) == ".txt":
        yield from _read_text_file(path)
        return
    rows = _read_parquet(path, column) if text_suffix(path) == ".parquet" else _read_json_lines(path, column)
    for number, value in enumerate(rows, 1):
        if not isinstance(value, str):
            raise TextError(f"{path}: row {number} has {value!r} in column '{column}', which is not a string")
        if value:
            yield DocumentChunk(value, begins_document=True)


def text_suffix(path: Path) -> str:
    """Return the suffix of a file name in lower case, without that of a compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSION_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _read_text_file(path: Path) -> Iterator[DocumentChunk]:
    begins_document = True
    try:
        with fsspec.open(str(path), "rb", compression="infer") as file:
            for text in decode_file(file, path):
                yield DocumentChunk(text, begins_document)
                begins_document = False
    except (OSError, EOFError, ValueError) as error:
        raise TextError(
            f"{path} cannot be read ({error}); check that it is complete and has the right suffix"
        ) from None


def _read_json_lines(path: Path, column: str) -> Iterator[Any]:
    import pandas as pd  # takes two seconds to import, which a plain text does not need

    try:
        with pd.read_json(path, lines=True, chunksize=ROWS_PER_BATCH, compression="infer", dtype=False) as frames:
            for frame in frames:
                yield from _column_of(frame, column, path)
    except (ValueError, OSError, EOFError) as error:
        raise TextError(
            f"{path} is not JSON Lines ({error}); each line must be an object with the key '{column}'"
        ) from None


def _read_parquet(path: Path, column: str) -> Iterator[Any]:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]
    except ImportError:
        raise TextError(f"{path}: Parquet files need pyarrow; pip install -e '.[parquet]'") from None
    try:
        file = parquet.ParquetFile(path)
        _check_column(column, file.schema_arrow.names, path)
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=[column]):
            yield from batch.column(0).to_pylist()
    except (ArrowException, OSError) as error:
        raise TextError(f"{path} cannot be read as Parquet ({error})") from None


def _column_of(frame: Any, column: str, path: Path) -> Iterable[Any]:  # noqa: ANN401 - a pandas DataFrame
    _check_column(column, list(frame.columns), path)
    values: Iterable[Any] = frame[column].tolist()
    return values


def _check_column(column: str, columns: list[str], path: Path) -> None:
    if column not in columns:
        raise TextError(
            f"{path} has no column '{column}' (it has: {', '.join(map(str, columns))}); set download.column"
        )
