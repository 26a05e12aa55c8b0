"""The interface of every tokenizer: text to token ids and back."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from stages.core.files import write_json

TokenIds = NDArray[np.unsignedinteger[Any]]
CodePoints = NDArray[np.uint32]


class Tokenizer(ABC):
    """Convert text to token ids 0 … V - 1 and back, where V is the length of the tokenizer.

    Attributes:
        kind: value of `tokenize.kind`.
        unit: what a token is, in one word for messages.
    """

    kind: ClassVar[str]
    unit: ClassVar[str]

    @abstractmethod
    def __len__(self) -> int: ...

    @classmethod
    @abstractmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Return the tokenizer that `to_dict` described."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return everything that the tokenizer consists of, in JSON types."""

    @abstractmethod
    def encode(self, text: str, start: int = 0) -> TokenIds:
        """Return the token ids of `text`, (N,), in the smallest unsigned type that holds the vocabulary.

        Args:
            text: the text to encode.
            start: position of `text` in a longer text, for error messages.

        Raises:
            TextError: if the text contains a character outside the vocabulary.
        """

    @abstractmethod
    def decode(self, ids: Any) -> str:  # noqa: ANN401 - any array or sequence of integers
        """Return the text of `ids`; incomplete UTF-8 sequences become �."""

    @abstractmethod
    def token_lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the number of characters and of UTF-8 bytes of each token, (V,) each.

        A character that spans several tokens is counted with its first token, so that sums over a text are exact. An
        unknown character counts as the three bytes of �.
        """

    def encode_chunks(self, chunks: Iterable[str], start: int = 0) -> Iterator[TokenIds]:
        """Yield the token ids of a text given in chunks; the result does not depend on the chunks."""
        for chunk in chunks:
            yield self.encode(chunk, start)
            start += len(chunk)

    def code_points(self, ids: Any) -> CodePoints:  # noqa: ANN401 - any array or sequence of integers
        """Return the Unicode code points of the text of `ids`, one per character."""
        return text_code_points(self.decode(ids))

    def stream_decoder(self, count: int) -> "StreamDecoder":
        """Return a decoder for `count` texts that grow by one token at a time."""
        return StreamDecoder(self, count)

    def display(self, *token_ids: int) -> str:
        """Return tokens as text to show to a person."""
        return self.decode(token_ids)

    def is_continuation(self, token_id: int) -> bool:  # noqa: ARG002 - by default every token is whole characters
        """Return whether a token begins inside a character."""
        return False

    def token_classes(self) -> NDArray[np.int64]:
        """Return what word and line contexts have to know about each token, (3, V).

        Row 0 is an id of its letters and digits, ignoring case, or 0 if it has none. Row 1 is 1 if it begins with
        another character, which ends the word before it. Row 2 is 1 if it ends a line.
        """
        numbers: dict[str, int] = {"": 0}
        classes = np.zeros((3, len(self)), np.int64)
        for token_id in range(len(self)):
            text = self.decode([token_id])
            if self.is_continuation(token_id) or "�" in text:  # part of a character
                letters, starts_word = f"�{token_id}", False
            else:
                letters = "".join(filter(str.isalnum, text.casefold()))
                starts_word = not text[:1].isalnum()
            classes[:, token_id] = numbers.setdefault(letters, len(numbers)), starts_word, text.endswith("\n")
        return classes

    def save(self, path: Path) -> None:
        """Write the tokenizer to a tokenizer.json."""
        write_json(path, self.as_document())

    def as_document(self) -> dict[str, Any]:
        """Return the content of tokenizer.json."""
        return {"kind": self.kind} | self.to_dict()

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Return the smallest unsigned type that holds the token ids."""
        return np.min_scalar_type(max(0, len(self) - 1))

    @property
    def fingerprint(self) -> str:
        """Return a digest of the vocabulary, by which token files are matched to their tokenizer."""
        return hashlib.sha256(json.dumps([self.kind, self.to_dict()]).encode()).hexdigest()


class StreamDecoder:
    """Decode several texts in parallel as their tokens arrive; here, every token is whole characters."""

    def __init__(self, tokenizer: Tokenizer, count: int) -> None:
        self.tokenizer, self.count = tokenizer, count

    def decode_next(self, ids: Sequence[int]) -> list[str]:
        """Return what the next token of each text adds to it; an incomplete character is held back."""
        return [self.tokenizer.display(token_id) for token_id in ids]

    def flush(self) -> list[str]:
        """Return what is held back in each text."""
        return [""] * self.count


def text_code_points(text: str) -> CodePoints:
    """Return the Unicode code points of `text`, (N,)."""
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
