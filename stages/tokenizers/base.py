"""What every tokenizer is: text to ids and back."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from stages.core import files

Ids = NDArray[np.unsignedinteger[Any]]
Points = NDArray[np.uint32]


class Tokenizer(ABC):
    """Text to ids and back; ids are 0 … V - 1, where V is its length."""

    kind: ClassVar[str]
    unit: ClassVar[str]  # what an id stands for, in a word

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def encode(self, text: str, start: int = 0) -> Ids:
        """Give the ids of `text`, (T,), in the smallest unsigned type that holds the vocabulary.

        `start` is the position of its first character in a longer text, for messages.

        Raises:
            TextError: where it cannot be said in this vocabulary.
        """

    @abstractmethod
    def decode(self, ids: Any) -> str:  # noqa: ANN401 - any array or sequence of integers
        """Give the text of `ids`; bytes that are no whole character show as �."""

    @abstractmethod
    def lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Give the characters and the bytes of UTF-8 that each id stands for, (V,) both.

        A character in several tokens counts with the one that it begins in, so that sums over a text are those of the
        text; but an unknown character counts as the three bytes of �, whatever it was.
        """

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """Give what it is made of, beside its kind, as JSON has it."""

    def encode_pieces(self, pieces: Iterable[str], start: int = 0) -> Iterator[Ids]:
        """Give the ids of a text in pieces: those of the whole text, whatever the pieces; `start` as for `encode`."""
        for piece in pieces:
            yield self.encode(piece, start)
            start += len(piece)

    def points(self, ids: Any) -> Points:  # noqa: ANN401 - any array or sequence of integers
        """Give the code points of the text of `ids`, one for each character."""
        return code_points(self.decode(ids))

    def streams(self, count: int) -> "Streams":
        """Give what decodes `count` texts side by side, one id of each at a time."""
        return Streams(self, count)

    def shown(self, index: int) -> str:
        """Give what an id stands for, for people to look at."""
        return self.decode([index])

    def goes_on(self, index: int) -> bool:  # noqa: ARG002 - where every id is whole characters
        """Say whether an id begins within a character."""
        return False

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        files.write_json(path, {"kind": self.kind} | self.document())

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Give the type of its ids."""
        return smallest_dtype(len(self))

    @property
    def sum(self) -> str:
        """Give a sum of the vocabulary, by which tokens know whose they are."""
        return hashlib.sha256(json.dumps([self.kind, self.document()]).encode()).hexdigest()


class Streams:
    """Decodes texts side by side as their ids come; here, where every id is whole characters."""

    def __init__(self, tokenizer: Tokenizer, count: int) -> None:
        self.tokenizer, self.count = tokenizer, count

    def feed(self, ids: Sequence[int]) -> list[str]:
        """Give what the next id of each text adds to it; an unfinished character waits."""
        return [self.tokenizer.shown(each) for each in ids]

    def end(self) -> list[str]:
        """Give what was still waiting in each text."""
        return [""] * self.count


def code_points(text: str) -> Points:
    """Give the numbers of the characters of a text, (N,)."""
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")


def smallest_dtype(count: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Give the smallest unsigned type that holds the ids 0 … count - 1."""
    return np.min_scalar_type(max(0, count - 1))
