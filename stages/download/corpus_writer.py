"""Write the documents of a corpus to one text file."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from stages.core.documents import DocumentTable, write_documents
from stages.core.errors import TextError
from stages.core.files import atomic_write
from stages.download.own_files import DocumentChunk

SEPARATOR = "\n\n"
MIN_COPY = 200  # characters; shorter documents, such as answers in a chat, may well occur twice


@dataclass(frozen=True)
class CorpusFile:
    """The digest, size and document table of a corpus on disk.

    Attributes:
        copies: documents that were left out, each with the earlier document that it equals.
    """

    sha256: str
    bytes: int
    characters: int
    documents: DocumentTable
    copies: list[tuple[str, str]]


class CorpusWriter:
    """Write documents to an open file, separated by blank lines; one that equals an earlier one is left out."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.size = self.characters = 0
        self.documents: list[tuple[int, int, float]] = []
        self.copies: list[tuple[str, str]] = []
        self._name_of: dict[bytes, str] = {}  # the first document with each digest
        self._begin("")

    def write(self, chunk: DocumentChunk) -> None:
        """Append a part of a document."""
        if chunk.begins_document:
            self.end_document()
            self._begin(chunk.name)
            if self.documents:
                self._append(SEPARATOR)
            self.documents.append((self.characters, chunk.source, chunk.weight))
        self._document.update(self._append(chunk.text))
        self._length += len(chunk.text)

    def end_document(self) -> None:
        """Remove the last document if it equals an earlier one."""
        if self._length < MIN_COPY:
            return
        first = self._name_of.setdefault(self._document.digest(), self._name)
        if first == self._name:
            return
        self.copies.append((self._name, first))
        self.digest, self.size, self.characters = self._before
        self.documents.pop()
        self.file.seek(self.size)
        self.file.truncate()

    def _begin(self, name: str) -> None:
        self._name, self._length, self._document = name, 0, hashlib.sha256()
        self._before = self.digest.copy(), self.size, self.characters

    def _append(self, text: str) -> bytes:
        """Write a text and return its bytes."""
        content = text.encode()
        self.file.write(content)
        self.digest.update(content)
        self.size, self.characters = self.size + len(content), self.characters + len(text)
        return content


def write_corpus(chunks: Iterable[DocumentChunk], path: Path) -> CorpusFile:
    """Write documents to `path`, separated by blank lines, and their table beside it.

    Of equal documents, the first is kept: otherwise one could be training text and the other validation text.

    Raises:
        TextError: if there is no text.
    """
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        writer = CorpusWriter(file)
        for chunk in chunks:
            writer.write(chunk)
        writer.end_document()
        if not writer.characters:
            raise TextError(f"the corpus {path} would be empty; add text to it")
    documents = write_documents(path, writer.documents)
    return CorpusFile(writer.digest.hexdigest(), writer.size, writer.characters, documents, writer.copies)
