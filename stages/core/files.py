"""Write files atomically: a file appears complete or not at all."""

import fcntl
import glob
import hashlib
import json
import os
import tempfile
import time
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from stages.core.errors import TextError

TEMPORARY_SUFFIX = ".tmp"


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success, flush it to disk and rename it to `path`.

    The old file is replaced and never modified in place, because DVC may have linked it to its cache. The caller must
    raise OSError if the disk is full, as Python's own files do.

    Args:
        path: the file to create or replace; missing parent folders are created.
    """
    _make_folder(path.parent)
    _delete_leftovers(path)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY_SUFFIX, dir=path.parent)
    temporary = Path(name)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)  # until the end of this process, however it ends
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 and without newline conversion."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401 - anything that JSON can hold
    """Write `value` as JSON; see `json_bytes`."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:  # noqa: ANN401 - anything that JSON can hold
    """Return `value` as indented ASCII JSON with a final newline.

    Raises:
        ValueError: if `value` contains NaN or infinity.
    """
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def write_tsv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[int | float | str]]) -> None:
    """Write a table as TSV with a header row; floats keep six significant digits."""
    lines = ["\t".join(columns), *("\t".join(map(_cell, row)) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def read_array(path: Path, writer: str, mmap_mode: Literal["r"] | None = None) -> Any:  # noqa: ANN401 - any array
    """Return the array in a .npy file that the stage `writer` wrote, memory-mapped if `mmap_mode` is "r".

    Raises:
        TextError: if the file is missing or damaged.
    """
    try:
        array = np.load(path, mmap_mode)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is an archive")
        return array
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; run `dvc repro {writer}` to write it") from None
    # The header is a Python literal, and NumPy lets some errors of Python's parser through.
    except (OSError, ValueError, TypeError, EOFError, MemoryError, SyntaxError, tokenize.TokenError) as error:
        # NumPy takes what it does not know for a pickle, and advises to load it unsafely.
        reason = "it is not a NumPy file" if "pickle" in str(error) else " ".join(str(error).split())
        raise TextError(f"{path} is damaged ({reason}); run `dvc repro -f {writer}` to write it again") from None


def sha256(path: Path) -> str:
    """Return the SHA-256 digest of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_folder(folder: Path) -> None:
    """Create a folder and those above it, and flush each new name to disk."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for parent in reversed(missing):
        _sync(parent.parent)


def _delete_leftovers(path: Path) -> None:
    """Delete the temporary files of processes that ended while they wrote `path`."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{TEMPORARY_SUFFIX}"):
        try:
            with leftover.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if leftover.stat().st_mtime < time.time() - 1:  # a new one may not be locked yet
                    leftover.unlink()
        except OSError:  # in use, or gone
            continue


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
