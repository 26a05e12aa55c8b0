"""Write files atomically: a file appears complete or not at all."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success, flush it to disk and rename it to `path`.

    The old file is replaced and never modified in place, because DVC may have linked it to its cache. The caller must
    raise OSError if the disk is full, as Python's own files do.

    Args:
        path: the file to create or replace; missing parent folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 and without newline conversion."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - anything that JSON can hold
    """Write `value` as indented ASCII JSON with a final newline.

    Raises:
        ValueError: if `value` contains NaN or infinity.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[int | float | str]]) -> None:
    """Write a table as TSV with a header row; floats keep six significant digits."""
    lines = ["\t".join(columns), *("\t".join(map(_cell, row)) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _cell(value: float | str) -> str:
    return str(value) if isinstance(value, int | str) else f"{value:.6g}"


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    # The umask can only be read by setting it. mkstemp creates files with mode 0600, which would exclude the group.
    mask = os.umask(0)
    os.umask(mask)
    return mask
