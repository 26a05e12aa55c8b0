"""Characters to ids and back: a vocabulary sorted by code point."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import TextError
from stages.tokenizers.base import Ids, Points, Tokenizer, code_points

MISSING = np.iinfo(np.uint32).max
UNKNOWN = "\ufffd"  # "�", Unicode's own sign for what could not be represented


class CharTokenizer(Tokenizer):
    """One id per character.

    `characters` is the vocabulary in order: the character with id `i` is `characters[i]`. With `unknown`, UNKNOWN is
    among them, and stands for every character that is not.
    """

    kind, unit = "char", "character"

    def __init__(self, characters: Iterable[str], unknown: bool = False) -> None:
        self.characters, self.unknown = list(characters), unknown
        self.code_points = np.array([ord(character) for character in self.characters], dtype=np.uint32)
        other = self.characters.index(UNKNOWN) if unknown else MISSING
        # One more than the largest: what lies beyond is looked up there.
        self._ids = np.full(int(self.code_points.max(initial=0)) + 2, other, dtype=np.uint32)
        self._ids[self.code_points] = np.arange(len(self.characters), dtype=np.uint32)

    @classmethod
    def of(cls, text: str, min_count: int = 0) -> Self:
        """Make the vocabulary of `text`: its distinct characters, sorted by code point."""
        return cls.of_pieces([text], min_count)[0]

    @classmethod
    def of_pieces(cls, pieces: Iterable[str], min_count: int = 0) -> tuple[Self, int]:
        """Do the same for a text in pieces, and count its characters.

        With `min_count` there is an unknown one, and characters that come less often are left to it.
        """
        counts, total = np.zeros(128, dtype=np.int64), 0
        for piece in pieces:
            found = np.bincount(_points(piece))
            if len(found) > len(counts):
                counts = np.pad(counts, (0, len(found) - len(counts)))
            counts[: len(found)] += found
            total += len(piece)
        kept = set(map(chr, np.flatnonzero(counts >= max(1, min_count))))
        return cls(sorted(kept | {UNKNOWN} if min_count else kept), unknown=bool(min_count)), total

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Self:
        """Make it of what a tokenizer.json holds."""
        characters = document["characters"]
        if any(len(character) != 1 for character in characters):
            raise ValueError("a character is not one")
        return cls(characters, document.get("unknown", False))

    def document(self) -> dict[str, Any]:
        """See `Tokenizer`."""
        return {"characters": self.characters} | ({"unknown": True} if self.unknown else {})

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str, start: int = 0) -> Ids:
        """Give the ids of `text`; see `Tokenizer`.

        Raises:
            TextError: naming the first unknown character, its position and code point, and the known ones.
        """
        ids = self._ids.take(_points(text), mode="clip")
        wrong = ids == MISSING
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
        return self.points(ids).astype("<u4").tobytes().decode("utf-32-le", errors="surrogatepass")

    def points(self, ids: Any) -> Points:  # noqa: ANN401 - any array or sequence of integers
        """See `Tokenizer`."""
        points: Points = self.code_points[np.asarray(ids, dtype=np.int64)]
        return points

    def lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `Tokenizer`."""
        sizes = [len(character.encode(errors="surrogatepass")) for character in self.characters]
        return np.ones(len(self), np.int64), np.array(sizes, np.int64)

    def shown(self, index: int) -> str:
        """See `Tokenizer`."""
        return self.characters[index]

    def known(self, most: int = 200) -> str:
        """Show the vocabulary's characters as one literal, cut after `most`."""
        return repr("".join(self.characters[:most])) + ("…" if len(self) > most else "")


def _points(text: str) -> NDArray[np.uint8] | Points:
    if text.isascii():  # a quarter of the memory traffic
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return code_points(text)
