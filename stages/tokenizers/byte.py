"""Bytes of UTF-8 as ids: a vocabulary that knows every text."""

import codecs
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stages.tokenizers.base import Ids, Streams, Tokenizer


class ByteTokenizer(Tokenizer):
    """One id per byte; `tokens` holds the bytes that each id stands for."""

    kind, unit = "byte", "byte"

    def __init__(self) -> None:
        self.tokens = [bytes([each]) for each in range(256)]

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Self:  # noqa: ARG003 - there is nothing to say
        """Make it of what a tokenizer.json holds."""
        return cls()

    def document(self) -> dict[str, Any]:
        """See `Tokenizer`."""
        return {}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str, start: int = 0) -> Ids:  # noqa: ARG002 - no text is refused
        """See `Tokenizer`."""
        return np.frombuffer(text.encode(), dtype=np.uint8)

    def decode(self, ids: Any) -> str:  # noqa: ANN401 - any array or sequence of integers
        """See `Tokenizer`."""
        return b"".join([self.tokens[each] for each in np.asarray(ids).tolist()]).decode(errors="replace")

    def lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `Tokenizer`."""
        begun = [sum(not goes_on(each) for each in token) for token in self.tokens]
        return np.array(begun, np.int64), np.array([len(token) for token in self.tokens], np.int64)

    def goes_on(self, index: int) -> bool:
        """See `Tokenizer`."""
        return goes_on(self.tokens[index][0])

    def streams(self, count: int) -> Streams:
        """See `Tokenizer`."""
        return ByteStreams(self, count)

    def shown(self, index: int) -> str:
        """See `Tokenizer`; bytes that are no whole characters in hexadecimal."""
        return self.tokens[index].decode(errors="backslashreplace")


def goes_on(byte: int) -> bool:
    """Say whether a byte of UTF-8 goes on with a character that another has begun: 0x80 … 0xBF do."""
    return byte & 0xC0 == 0x80


class ByteStreams(Streams):
    """Decodes texts side by side, of which an id may be less than a character."""

    def __init__(self, tokenizer: ByteTokenizer, count: int) -> None:
        super().__init__(tokenizer, count)
        self.tokens = tokenizer.tokens
        self.decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in range(count)]

    def feed(self, ids: Sequence[int]) -> list[str]:
        """See `Streams`."""
        return [each.decode(self.tokens[index]) for each, index in zip(self.decoders, ids, strict=True)]

    def end(self) -> list[str]:
        """See `Streams`."""
        return [each.decode(b"", final=True) for each in self.decoders]
