"""Characters to ids and back: a vocabulary sorted by code point."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stages import files
from stages.errors import ModelError, TextError

Ids = NDArray[np.unsignedinteger[Any]]
UNKNOWN = np.iinfo(np.uint32).max


class CharTokenizer:
    """One id per character.

    `characters` is the vocabulary in order: the character with id `i` is `characters[i]`.
    """

    def __init__(self, characters: Iterable[str]) -> None:
        self.characters = list(characters)
        self.code_points = np.array([ord(character) for character in self.characters], dtype=np.uint32)
        self.dtype = smallest_dtype(len(self.characters))
        self._ids = np.full(int(self.code_points.max(initial=0)) + 1, UNKNOWN, dtype=np.uint32)
        self._ids[self.code_points] = np.arange(len(self.characters), dtype=np.uint32)

    @classmethod
    def of(cls, text: str) -> Self:
        """Make the vocabulary of `text`: its distinct characters, sorted by code point."""
        return cls.of_pieces([text])[0]

    @classmethod
    def of_pieces(cls, pieces: Iterable[str]) -> tuple[Self, int]:
        """Do the same for a text in pieces, and count its characters."""
        seen, count = np.zeros(128, dtype=bool), 0
        for piece in pieces:
            points = _code_points(piece)
            found = np.bincount(points) > 0 if points.itemsize == 1 else _present(points)
            if len(found) > len(seen):
                seen = np.pad(seen, (0, len(found) - len(seen)))
            seen[: len(found)] |= found
            count += len(piece)
        return cls(map(chr, np.flatnonzero(seen))), count

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a tokenizer.json.

        Raises:
            ModelError: where it is missing or holds something else.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            kind, characters = document["kind"], document["characters"]
            if kind != "char" or any(len(character) != 1 for character in characters):
                raise ValueError(f"kind {kind!r}")
        except FileNotFoundError:
            raise ModelError(f"{path} does not exist; `dvc repro tokenize` makes it") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path} is not a character tokenizer ({error}); make it again") from None
        return cls(characters)

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        files.write_json(path, {"kind": "char", "characters": self.characters})

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str, start: int = 0) -> Ids:
        """Give the ids of `text`, (T,), in the smallest unsigned type that holds the vocabulary.

        `start` is the position of its first character in a longer text, for the message.

        Raises:
            TextError: naming the first unknown character, its position and code point, and the known ones.
        """
        points = _code_points(text)
        ids = self._ids.take(points, mode="clip")
        wrong = (ids == UNKNOWN) | (points >= len(self._ids))
        if wrong.any():
            position = int(wrong.argmax())
            character = text[position]
            raise TextError(
                f"unknown character {character!r} (U+{ord(character):04X}) at position {start + position}; "
                f"the {len(self)} known ones: {self.known()}"
            )
        return ids.astype(self.dtype)

    def decode(self, ids: Any) -> str:  # noqa: ANN401 - any array or sequence of integers
        """Give the text of `ids`, the inverse of `encode`."""
        points: NDArray[np.uint32] = self.code_points[np.asarray(ids, dtype=np.int64)]
        return points.astype("<u4").tobytes().decode("utf-32-le", errors="surrogatepass")

    @property
    def sum(self) -> str:
        """Give a sum of the vocabulary, by which tokens know whose they are."""
        return hashlib.sha256("".join(self.characters).encode("utf-32-le", errors="surrogatepass")).hexdigest()

    def known(self, most: int = 200) -> str:
        """Show the vocabulary's characters as one literal, cut after `most`."""
        return repr("".join(self.characters[:most])) + ("…" if len(self) > most else "")


def smallest_dtype(count: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Give the smallest unsigned type that holds the ids 0 … count - 1."""
    return np.min_scalar_type(max(0, count - 1))


def _present(points: NDArray[np.uint8] | NDArray[np.uint32]) -> NDArray[np.bool_]:
    seen = np.zeros(int(points.max(initial=0)) + 1, dtype=bool)
    seen[points] = True
    return seen


def _code_points(text: str) -> NDArray[np.uint8] | NDArray[np.uint32]:
    if text.isascii():  # a quarter of the memory traffic
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")
