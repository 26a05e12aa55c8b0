"""Byte-level tokenizer: the token ids are the bytes of UTF-8, so every text can be encoded."""

import codecs
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

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
    @override
    def from_dict(cls, document: dict[str, Any]) -> Self:
        return cls()

    @override
    def to_dict(self) -> dict[str, Any]:
        return {}

    def __len__(self) -> int:
        return len(self.token_bytes)

    @override
    def encode(self, text: str, start: int = 0) -> TokenIds:
        return np.frombuffer(text.encode(), dtype=np.uint8)

    @override
    def decode(self, ids: Any) -> str:
        return b"".join([self.token_bytes[token_id] for token_id in np.asarray(ids).tolist()]).decode(errors="replace")

    @override
    def token_lengths(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        characters = [sum(not is_continuation_byte(byte) for byte in token) for token in self.token_bytes]
        return np.array(characters, np.int64), np.array([len(token) for token in self.token_bytes], np.int64)

    @override
    def is_continuation(self, token_id: int) -> bool:
        return is_continuation_byte(self.token_bytes[token_id][0])

    @override
    def stream_decoder(self, count: int) -> StreamDecoder:
        return ByteStreamDecoder(self, count)

    def display(self, *token_ids: int) -> str:
        """Return tokens as they are shown to people, with incomplete characters in hexadecimal."""
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

    @override
    def decode_next(self, ids: Sequence[int]) -> list[str]:
        return [
            decoder.decode(self.token_bytes[token_id]) for decoder, token_id in zip(self.decoders, ids, strict=True)
        ]

    @override
    def flush(self) -> list[str]:
        return [decoder.decode(b"", final=True) for decoder in self.decoders]
