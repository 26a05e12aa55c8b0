"""A text of any size onto the disk, and what is known of it afterwards."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages import files
from stages.errors import TextError
from stages.text.documents import Piece

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Stored:
    """Sum, size, and the character at which each document begins."""

    sha256: str
    bytes: int
    characters: int
    starts: list[int]


def store(pieces: Iterable[Piece], path: Path) -> Stored:
    """Write documents to `path`, blank lines between them, and where each begins to documents.npy beside it.

    Raises:
        TextError: where there is nothing in them.
    """
    digest, size, characters = hashlib.sha256(), 0, 0
    starts: list[int] = []
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            text = SEPARATOR + piece.text if piece.begins and starts else piece.text
            if piece.begins:
                starts.append(characters + len(text) - len(piece.text))
            content = text.encode()
            file.write(content)
            digest.update(content)
            size, characters = size + len(content), characters + len(text)
        if not characters:
            raise TextError(f"{path} would be empty: there is nothing to learn from; give it a text")
    write_starts(path, starts)
    return Stored(digest.hexdigest(), size, characters, starts)


def write_starts(corpus: Path, starts: list[int]) -> None:
    """Write where documents begin."""
    with files.replacing(starts_path(corpus)) as temporary, temporary.open("wb") as file:
        np.save(file, np.array(starts, dtype=np.int64))


def starts_path(corpus: Path) -> Path:
    """Give the place of the file that says where documents begin."""
    return corpus.with_name("documents.npy")
