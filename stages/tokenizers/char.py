"""Character-level tokenizer: the vocabulary is the sorted set of characters of a text."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from stages.core.errors import TextError
from stages.tokenizers.base import CodePoints, TokenIds, Tokenizer, text_code_points

MISSING = np.iinfo(np.uint32).max
UNKNOWN_CHARACTER = "\ufffd"  # "�", Unicode's replacement character


class CharTokenizer(Tokenizer):
    """One token per character.

    Args:
        characters: the vocabulary in order; the token id of a character is its index.
        has_unknown: whether UNKNOWN_CHARACTER, which must then be in the vocabulary, encodes all other characters.
    """

    kind, unit = "char", "character"

    def __init__(self, characters: Iterable[str], has_unknown: bool = False) -> None:
        self.characters, self.has_unknown = list(characters), has_unknown
        self._code_points = np.array([ord(character) for character in self.characters], dtype=np.uint32)
        default = self.characters.index(UNKNOWN_CHARACTER) if has_unknown else MISSING
        # One entry more than the largest code point: larger ones are clipped to it.
        self._ids = np.full(int(self._code_points.max(initial=0)) + 2, default, dtype=np.uint32)
        self._ids[self._code_points] = np.arange(len(self.characters), dtype=np.uint32)

    @classmethod
    def from_text(cls, text: str, min_count: int = 0) -> Self:
        """Return a tokenizer for the characters of `text`; see `from_chunks`."""
        return cls.from_chunks([text], min_count)[0]

    @classmethod
    def from_chunks(cls, chunks: Iterable[str], min_count: int = 0) -> tuple[Self, int]:
        """Return a tokenizer for the characters of a text given in chunks, and the length of the text.

        Args:
            chunks: the text.
            min_count: if positive, characters that occur less often are encoded as the unknown character.
        """
        counts, total = np.zeros(128, dtype=np.int64), 0
        for chunk in chunks:
            chunk_counts = np.bincount(_smallest_code_points(chunk))
            if len(chunk_counts) > len(counts):
                counts = np.pad(counts, (0, len(chunk_counts) - len(counts)))
            counts[: len(chunk_counts)] += chunk_counts
            total += len(chunk)
        kept = set(map(chr, np.flatnonzero(counts >= max(1, min_count))))
        return cls(sorted(kept | {UNKNOWN_CHARACTER} if min_count else kept), has_unknown=bool(min_count)), total

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """Return a tokenizer from what `to_dict` returned.

        Raises:
            ValueError: if an entry of the vocabulary is not a single character.
        """
        characters = document["characters"]
        if any(len(character) != 1 for character in characters):
            raise ValueError("a vocabulary entry is not a single character")
        return cls(characters, document.get("unknown", False))

    @override
    def to_dict(self) -> dict[str, Any]:
        return {"characters": self.characters} | ({"unknown": True} if self.has_unknown else {})

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str, start: int = 0) -> TokenIds:
        """Return the token ids of `text`; see `Tokenizer`.

        Raises:
            TextError: if a character is not in the vocabulary; the message names the character, its position and its
                code point.
        """
        ids = self._ids.take(_smallest_code_points(text), mode="clip")
        missing = ids == MISSING
        if missing.any():
            position = int(missing.argmax())
            character = text[position]
            raise TextError(
                f"unknown character {character!r} (U+{ord(character):04X}) at position {start + position}; "
                f"the vocabulary has {len(self)} characters: {self.vocab_preview()}"
            )
        return ids.astype(self.dtype)

    def decode(self, ids: Any) -> str:  # noqa: ANN401 - any array or sequence of integers
        """Return the text of `ids`, the inverse of `encode`."""
        return self.code_points(ids).astype("<u4").tobytes().decode("utf-32-le", errors="surrogatepass")

    @override
    def code_points(self, ids: Any) -> CodePoints:
        code_points: CodePoints = self._code_points[np.asarray(ids, dtype=np.int64)]
        return code_points

    @override
    def token_lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        byte_lengths = [len(character.encode(errors="surrogatepass")) for character in self.characters]
        return np.ones(len(self), np.int64), np.array(byte_lengths, np.int64)

    @override
    def display(self, *token_ids: int) -> str:
        return "".join(self.characters[token_id] for token_id in token_ids)

    def vocab_preview(self, max_characters: int = 200) -> str:
        """Return the vocabulary as a string literal, cut after `max_characters`."""
        return repr("".join(self.characters[:max_characters])) + ("…" if len(self) > max_characters else "")


def _smallest_code_points(text: str) -> NDArray[np.uint8] | CodePoints:
    if text.isascii():  # a quarter of the memory traffic
        return np.frombuffer(text.encode("ascii"), dtype=np.uint8)
    return text_code_points(text)
