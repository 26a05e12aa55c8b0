"""Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909) in the form of GPT-2 (Radford et al. 2019).

The `tokenizers` library learns and applies the merges. A text is split into words, each with its preceding space;
merges stay within a word; each byte is represented by a printable character.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from typing_extensions import override

from stages.core.errors import ModelError
from stages.core.project import install_command
from stages.tokenizers.base import TokenIds
from stages.tokenizers.byte import ByteTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HFTokenizer

PART_CHARACTERS = 1 << 15  # text that one thread of the library encodes at a time
PARTS_PER_BATCH = 64
MAX_BOUNDARY_DISTANCE = 1 << 20  # characters searched for a word boundary; a script without spaces is cut anywhere
MAX_WORD_BYTES = 256  # for learning, which takes quadratic time in the length of words; a longer one is several
# A text may be split before a space or line break that follows another character, without splitting a word.
WORD_BOUNDARY = re.compile(r"(?<=\S)[ \r\n]")


class BpeTokenizer(ByteTokenizer):
    """Token ids 0 … 255 are the bytes; every merge adds one token.

    Args:
        merges: pairs of tokens to merge, in order, spelled with the characters of `byte_alphabet`.

    Raises:
        ModelError: if the `tokenizers` library is not installed.
    """

    kind, unit = "bpe", "token"

    def __init__(self, merges: Iterable[tuple[str, str]]) -> None:
        super().__init__()
        self.merges = [(first, second) for first, second in merges]
        alphabet = byte_alphabet()
        spelled = list(dict.fromkeys([*alphabet, *(first + second for first, second in self.merges)]))
        byte_of = {character: byte for byte, character in enumerate(alphabet)}
        self.token_bytes = [bytes(byte_of[character] for character in token) for token in spelled]
        self.hf_tokenizer = make_hf_tokenizer({token: index for index, token in enumerate(spelled)}, self.merges)

    @classmethod
    def from_chunks(cls, chunks: Iterable[str], vocab_size: int) -> Self:
        """Return a tokenizer with merges learned from a text, with at most `vocab_size` tokens."""
        learner = make_hf_tokenizer({}, [])
        from tokenizers import Regex, pre_tokenizers
        from tokenizers.trainers import BpeTrainer

        short_words = pre_tokenizers.Split(Regex(f"[\\s\\S]{{{MAX_WORD_BYTES}}}"), "isolated")
        learner.pre_tokenizer = pre_tokenizers.Sequence([learner.pre_tokenizer, short_words])

        trainer = BpeTrainer(vocab_size=vocab_size, initial_alphabet=byte_alphabet(), show_progress=False)
        learner.train_from_iterator(split_at_words(chunks), trainer)
        return cls(json.loads(learner.to_str())["model"]["merges"])

    @classmethod
    @override
    def from_dict(cls, document: dict[str, Any]) -> Self:
        try:
            return cls(document["merges"])
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"its merges cannot be used: {error}") from None

    @override
    def to_dict(self) -> dict[str, Any]:
        return {"merges": [list(merge) for merge in self.merges]}

    @override
    def encode(self, text: str, start: int = 0) -> TokenIds:
        parts = self.hf_tokenizer.encode_batch_fast(list(split_at_words([text])), add_special_tokens=False)
        return np.fromiter(chain.from_iterable(part.ids for part in parts), dtype=self.dtype)

    @override
    def encode_chunks(self, chunks: Iterable[str], start: int = 0) -> Iterator[TokenIds]:
        for words in split_at_words(chunks, PARTS_PER_BATCH * PART_CHARACTERS):
            yield self.encode(words)


def split_at_words(chunks: Iterable[str], size: int = PART_CHARACTERS) -> Iterator[str]:
    """Yield a text in parts of at least `size` characters, none of which ends inside a word."""
    buffer = ""
    for chunk in chunks:
        buffer += chunk
        start = 0
        while (end := _part_end(buffer, start + size)) is not None:
            yield buffer[start:end]
            start = end
        buffer = buffer[start:]
    if buffer:
        yield buffer


def _part_end(text: str, min_end: int) -> int | None:
    """Return where a part may end, at `min_end` or later; None if more text is needed to decide."""
    boundary = WORD_BOUNDARY.search(text, min_end, min_end + MAX_BOUNDARY_DISTANCE)
    if boundary:
        return boundary.start()
    return min_end + MAX_BOUNDARY_DISTANCE if len(text) > min_end + MAX_BOUNDARY_DISTANCE else None


def byte_alphabet() -> list[str]:
    """Return the printable character that represents each byte: its Latin-1 character, or one from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]


def make_hf_tokenizer(vocab: dict[str, int], merges: list[tuple[str, str]]) -> "HFTokenizer":
    """Return a tokenizer of the `tokenizers` library.

    Raises:
        ModelError: if the library is not installed.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    except ImportError:
        raise ModelError(f"tokenize.kind 'bpe' needs the tokenizers library: {install_command('bpe')}") from None
    hf_tokenizer = Tokenizer(models.BPE(vocab, merges))
    hf_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # splits into words
    hf_tokenizer.decoder = decoders.ByteLevel()
    return hf_tokenizer
