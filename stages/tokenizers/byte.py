"""Byte-level tokenizer: the token ids are the bytes of UTF-8, so every text can be encoded."""

import codecs
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stages.tokenizers.base import StreamDecoder, TokenIds, Tokenizer


class ByteTokenizer(Tokenizer):
    """One token per byte.

    Attributes:
        token_bytes: the bytes of each token, by id.
    """

    kind, unit = "byte", "byte"

    def __init__(self) -> None:
        self.token_bytes = [bytes([byte]) for byte in range(256)]

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:  # noqa: ARG003 - a byte tokenizer has no content
        """See `Tokenizer`."""
        return cls()

    def to_dict(self) -> dict[str, Any]:
        """See `Tokenizer`."""
        return {}

    def __len__(self) -> int:
        return len(self.token_bytes)

    def encode(self, text: str, start: int = 0) -> TokenIds:  # noqa: ARG002 - every text can be encoded
        """See `Tokenizer`."""
        return np.frombuffer(text.encode(), dtype=np.uint8)

    def decode(self, ids: Any) -> str:  # noqa: ANN401 - any array or sequence of integers
        """See `Tokenizer`."""
        return b"".join([self.token_bytes[token_id] for token_id in np.asarray(ids).tolist()]).decode(errors="replace")

    def token_lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """See `Tokenizer`."""
        characters = [sum(not is_continuation_byte(byte) for byte in token) for token in self.token_bytes]
        return np.array(characters, np.int64), np.array([len(token) for token in self.token_bytes], np.int64)

    def is_continuation(self, token_id: int) -> bool:
        """See `Tokenizer`."""
        return is_continuation_byte(self.token_bytes[token_id][0])

    def stream_decoder(self, count: int) -> StreamDecoder:
        """See `Tokenizer`."""
        return ByteStreamDecoder(self, count)

    def display(self, *token_ids: int) -> str:
        """See `Tokenizer`; incomplete characters are shown in hexadecimal."""
        return b"".join(self.token_bytes[token_id] for token_id in token_ids).decode(errors="backslashreplace")


def is_continuation_byte(byte: int) -> bool:
    """Return whether a byte of UTF-8 continues a character, which 0x80 … 0xBF do."""
    return byte & 0xC0 == 0x80


class ByteStreamDecoder(StreamDecoder):
    """Decode several texts in parallel whose tokens may be parts of characters."""

    def __init__(self, tokenizer: ByteTokenizer, count: int) -> None:
        super().__init__(tokenizer, count)
        self.token_bytes = tokenizer.token_bytes
        self.decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in range(count)]

    def decode_next(self, ids: Sequence[int]) -> list[str]:
        """See `StreamDecoder`."""
        return [
            decoder.decode(self.token_bytes[token_id]) for decoder, token_id in zip(self.decoders, ids, strict=True)
        ]

    def flush(self) -> list[str]:
        """See `StreamDecoder`."""
        return [decoder.decode(b"", final=True) for decoder in self.decoders]
