"""Read a user's own texts from text, JSON Lines and Parquet files.

Every text file, line (.jsonl, .ndjson) and row (.parquet) is a document. Text and JSON Lines may be compressed (.gz,
.bz2, .xz, and .zst with the extra `zstd`). Text files are those that end in .txt, and all others that a pattern in
`download.sources` names by their ending or in full, such as `*.py`.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, cast

from stages.core.errors import TextError
from stages.core.logs import log
from stages.core.project import install_command, missing_file_hint
from stages.core.text_files import BOM, COMPRESSION_SUFFIXES, decode_file

TABLE_SUFFIXES = {".jsonl", ".ndjson", ".parquet"}
TEXT_SUFFIXES = {".txt"} | TABLE_SUFFIXES
ROWS_PER_BATCH = 1000
MAX_NAMES_IN_MESSAGE = 10
NO_ENDING, NO_PATTERN = "no ending", "no pattern matches"
OWN_NAMES = ("README.md", ".gitignore")  # of the folder itself
# The modules whose `open` decompresses a file.
DECOMPRESSORS = {
    ".gz": "gzip", ".bz2": "bz2", ".xz": "lzma",
    ".zst": "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd",
}  # fmt: skip
NAMES_A_KIND = re.compile(r"(.*\.[^*?\[\]./]+|[^*?\[\]]+)")  # a pattern that ends in a suffix, or has no wildcards


@dataclass(frozen=True)
class DocumentChunk:
    """A part of a document.

    Attributes:
        text: the text of the part.
        begins_document: whether the document begins with it.
        source: number of the source that the document is from.
        weight: how often training samples the source.
        name: name of the document, for messages.
    """

    text: str
    begins_document: bool
    source: int = 0
    weight: float = 1.0
    name: str = ""


class LimitedReader:
    """A decompressed file that may be read up to a limit, because a small one may contain any amount.

    Args:
        file: the file.
        path: its path, for the error message.
        max_bytes: the limit.
    """

    def __init__(self, file: BinaryIO, path: Path, max_bytes: int) -> None:
        self.file, self.path, self.max_bytes, self.bytes_read = file, path, max_bytes, 0

    def read(self, size: int) -> bytes:
        """Return the next bytes, at most `size`.

        Raises:
            TextError: if the limit is exceeded.
            OSError: if the file is damaged.
        """
        try:
            content = self.file.read(size)
        except MemoryError:
            raise
        except Exception as error:  # each decompressor has errors of its own
            raise OSError(str(error)) from error
        self.bytes_read += len(content)
        check_size(self.path, self.bytes_read, self.max_bytes)
        return content


def check_size(path: Path, size: int, max_bytes: int) -> None:
    """Raise a TextError if the content of a compressed file is larger than `download.max_bytes`."""
    if size > max_bytes:
        raise TextError(
            f"the content of {path} is larger than download.max_bytes ({max_bytes}); increase it if that is expected"
        )


def read_own_files(folder: Path, column: str, sources: Mapping[str, float], max_bytes: int) -> Iterator[DocumentChunk]:
    """Yield the documents of the files in `folder` and below, source by source, sorted by path; log what is left out.

    Args:
        folder: the folder of the files.
        column: the column of JSON Lines and Parquet files that holds the text.
        sources: patterns of paths relative to `folder`, in which `*` matches anything, with their weights. A file
            belongs to the first pattern that it matches, and is left out if it matches none.
        max_bytes: largest content of a compressed file.

    Raises:
        TextError: if a source has no file of a supported type, or a file cannot be read.
    """
    owners, left_out = find_files(folder, sources)
    if left_out:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in sorted(left_out.items()))
        log.warning("%s: files read: %d, left out: %d (%s)", folder, len(owners), left_out.total(), kinds)
        if any(kind.startswith(".") or kind == NO_ENDING for kind in left_out):
            log.warning("to read other text files, name them in download.sources before '*': {'*.md': 1.0, '*': 1.0}")
    if not owners and not left_out[NO_PATTERN]:
        raise TextError(
            f"download.corpus is 'own', but {folder}/ has no file of a supported type "
            f"({', '.join(sorted(TEXT_SUFFIXES))}; text and JSON Lines also compressed) that is not empty; "
            f"add your text there{missing_file_hint()}"
        )
    for number, (pattern, weight) in enumerate(sources.items()):
        matching = [path for path, owner in owners.items() if owner == pattern]
        if not matching:
            raise TextError(
                f"download.sources: no file in {folder}/ that is not empty matches '{pattern}' and no earlier pattern; "
                f"{source_advice(folder, sources, pattern)}"
            )
        for path in matching:
            for chunk in read_documents_of(path, column, max_bytes):
                yield replace(chunk, source=number, weight=weight)


def source_advice(folder: Path, sources: Mapping[str, float], pattern: str) -> str:
    """Return what to do about a pattern to which no file belongs."""
    owners, _ = find_files(folder, {pattern: sources[pattern]} | dict(sources))  # the pattern before all others
    names = [path.relative_to(folder).as_posix() for path, owner in owners.items() if owner == pattern]
    if not names:
        found = [path.relative_to(folder).as_posix() for path in find_files(folder, {"*": 1.0})[0]]
        listed = f"the files are: {', '.join(found[:MAX_NAMES_IN_MESSAGE])}" if found else "add your text there"
        return f"{listed}{missing_file_hint()}"
    earlier = next(other for other in sources if fnmatchcase(names[0], other))
    if set(owners.values()) == set(sources):
        return f"{names[0]} matches '{earlier}' first: put '{pattern}' before '{earlier}'"
    return f"all of its files, such as {names[0]}, match '{earlier}' first: remove '{pattern}'"


def find_files(folder: Path, sources: Mapping[str, float]) -> tuple[dict[Path, str], Counter[str]]:
    """Return the files to read, sorted by path, with the pattern of each, and how many are left out, by reason."""
    owners: dict[Path, str] = {}
    left_out: Counter[str] = Counter()
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        pattern = next((pattern for pattern in sources if fnmatchcase(name, pattern)), None)
        if path.is_symlink() and path.is_dir():
            left_out["linked folders"] += 1
        elif path.is_dir() or name in OWN_NAMES:
            continue
        elif any(part.startswith(".") for part in Path(name).parts):
            left_out["hidden"] += 1
        elif not path.is_file():
            left_out["pipes and devices" if path.exists() else "broken links"] += 1
        elif not path.stat().st_size:
            left_out["empty"] += 1
        elif pattern is None:
            left_out[NO_PATTERN] += 1
        elif text_suffix(path) in TEXT_SUFFIXES or NAMES_A_KIND.fullmatch(pattern):
            owners[path] = pattern
        else:
            left_out[text_suffix(path) or NO_ENDING] += 1
    return owners, left_out


def read_documents_of(path: Path, column: str, max_bytes: int) -> Iterator[DocumentChunk]:
    """Yield the documents of one file; empty ones are skipped.

    Args:
        path: path of the file.
        column: column of JSON Lines and Parquet files.
        max_bytes: largest size of the file, unpacked.

    Raises:
        TextError: if the file is damaged or has no such column, or a value is not text.
    """
    if text_suffix(path) not in TABLE_SUFFIXES:
        yield from _read_text_file(path, max_bytes)
        return
    read = _read_parquet if text_suffix(path) == ".parquet" else _read_json_lines
    for number, value in read(path, column, max_bytes):
        if not isinstance(value, str):
            raise TextError(
                f"{path}: row {number} has {value!r} in column '{column}', which is not a string; remove the row, or "
                "set download.column to another column"
            )
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise TextError(
                f"{path}: row {number} has an unpaired surrogate in column '{column}', such as \\ud83d without the "
                "other half, which is not text; correct or remove the row"
            )
        if value:
            yield DocumentChunk(value, begins_document=True, name=f"{path}, row {number}")


def text_suffix(path: Path) -> str:
    """Return the suffix of a file name in lower case, without that of a compression."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSION_SUFFIXES:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def without_bom(chunks: Iterator[str]) -> Iterator[str]:
    """Yield a text in chunks without a byte-order mark at its beginning, which would end up between two documents."""
    yield next(chunks).removeprefix(BOM)
    yield from chunks


@contextmanager
def _open(path: Path, max_bytes: int) -> Iterator[BinaryIO]:
    """Open a file for reading, decompressed according to its suffix, up to `max_bytes`."""
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        if suffix not in COMPRESSION_SUFFIXES:
            yield file
            return
        try:
            module = import_module(DECOMPRESSORS[suffix])
        except ImportError:
            if suffix != ".zst":  # a Python without a part of its library
                raise
            needed = f"Zstandard files need {DECOMPRESSORS[suffix]}: {install_command('zstd')}"
            raise TextError(f"{path}: {needed}") from None
        with module.open(file, "rb") as decompressed:
            yield cast(BinaryIO, LimitedReader(decompressed, path, max_bytes))


def _read_text_file(path: Path, max_bytes: int) -> Iterator[DocumentChunk]:
    begins_document = True
    try:
        with _open(path, max_bytes) as file:
            for text in without_bom(decode_file(file, path, may_be_empty=True)):
                if text:
                    yield DocumentChunk(text, begins_document, name=str(path))
                    begins_document = False
    except (OSError, ValueError) as error:
        raise TextError(
            f"{path} cannot be read ({error}); check that it is complete and has the right suffix"
        ) from None


def _read_json_lines(path: Path, column: str, max_bytes: int) -> Iterator[tuple[int, Any]]:
    """Yield the number of each line that is not empty, from 1, and its value in a column."""
    number = 0
    try:
        with _open(path, max_bytes) as file:
            for number, line in enumerate(_lines(without_bom(decode_file(file, path, may_be_empty=True))), 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"line {number} is not an object")
                _check_column(column, list(row), f"{path}: row {number}")
                yield number, row[column]
    except (OSError, ValueError, RecursionError) as error:
        where = f"line {number}: " if isinstance(error, json.JSONDecodeError) else ""
        raise TextError(
            f"{path} is not JSON Lines ({where}{error}); each line must be an object with the key '{column}'"
        ) from None


def _lines(chunks: Iterable[str]) -> Iterator[str]:
    """Yield the lines of a text that is given in chunks."""
    rest = ""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split("\n")
        yield from lines
    yield rest


def _read_parquet(path: Path, column: str, max_bytes: int) -> Iterator[tuple[int, Any]]:
    """Yield the number of each row, from 1, and its value in a column."""
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]
    except ImportError:
        raise TextError(f"{path}: Parquet files need pyarrow: {install_command('parquet')}") from None
    try:
        file = parquet.ParquetFile(path)
        _check_column(column, file.schema_arrow.names, str(path))
        size = rows = 0
        for batch in file.iter_batches(ROWS_PER_BATCH, columns=[column]):
            check_size(path, size := size + batch.nbytes, max_bytes)
            yield from enumerate(batch.column(0).to_pylist(), rows + 1)
            rows += batch.num_rows
    except UnicodeDecodeError as error:
        raise TextError(f"{path} has a row that is not UTF-8 ({error}); write it again in UTF-8") from None
    except (ArrowException, OSError, ValueError) as error:
        raise TextError(f"{path} cannot be read as Parquet ({error}); check that it is complete") from None


def _check_column(column: str, columns: list[str], place: str) -> None:
    if column not in columns:
        raise TextError(
            f"{place} has no column '{column}' (it has: {', '.join(map(str, columns))}); set download.column, or "
            "correct the file"
        )
