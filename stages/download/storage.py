"""A text of any size onto the disk."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stages.core import files
from stages.core.documents import Documents, write_documents
from stages.core.errors import TextError
from stages.download.own_files import Piece

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Stored:
    """Sum, size, and the documents: an array of DOCUMENT, in the order of the text."""

    sha256: str
    bytes: int
    characters: int
    documents: Documents


def store(pieces: Iterable[Piece], path: Path) -> Stored:
    """Write documents to `path`, blank lines between them, and what is known of each to documents.npy beside it.

    Raises:
        TextError: where there is nothing in them.
    """
    digest, size, characters = hashlib.sha256(), 0, 0
    documents: list[tuple[int, int, float]] = []
    with files.replacing(path) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            text = SEPARATOR + piece.text if piece.begins and documents else piece.text
            if piece.begins:
                documents.append((characters + len(text) - len(piece.text), piece.source, piece.weight))
            content = text.encode()
            file.write(content)
            digest.update(content)
            size, characters = size + len(content), characters + len(text)
        if not characters:
            raise TextError(f"{path} would be empty: there is nothing to learn from; give it a text")
    return Stored(digest.hexdigest(), size, characters, write_documents(path, documents))
