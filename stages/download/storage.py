"""Write the documents of a corpus to one text file."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stages.core.documents import DocumentTable, write_documents
from stages.core.errors import TextError
from stages.core.files import atomic_write
from stages.download.own_files import DocumentChunk

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class CorpusFile:
    """The digest, size and document table of a corpus on disk."""

    sha256: str
    bytes: int
    characters: int
    documents: DocumentTable


def write_corpus(chunks: Iterable[DocumentChunk], path: Path) -> CorpusFile:
    """Write documents to `path`, separated by blank lines, and their table to documents.npy beside it.

    Raises:
        TextError: if there is no text.
    """
    digest, size, characters = hashlib.sha256(), 0, 0
    documents: list[tuple[int, int, float]] = []
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        for chunk in chunks:
            text = SEPARATOR + chunk.text if chunk.begins_document and documents else chunk.text
            if chunk.begins_document:
                documents.append((characters + len(text) - len(chunk.text), chunk.source, chunk.weight))
            content = text.encode()
            file.write(content)
            digest.update(content)
            size, characters = size + len(content), characters + len(text)
        if not characters:
            raise TextError(f"the corpus {path} would be empty; add text to it")
    return CorpusFile(digest.hexdigest(), size, characters, write_documents(path, documents))
