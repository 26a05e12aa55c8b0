"""Pieces of words as ids: pairs of bytes merged, the most frequent first (Sennrich et al. 2016, arXiv:1508.07909).

The `tokenizers` library learns and applies the merges, in the form of GPT-2 (Radford et al. 2019): a text is cut into
words, each with the space before it; merges stay within a word; and bytes are spelled with a printable character each.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from stages.core.errors import ModelError
from stages.tokenizers.base import Ids
from stages.tokenizers.byte import ByteTokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Fast

AT_ONCE, PARTS = 1 << 15, 64  # characters that a thread of the library gets at a time; how many times that at once
FARTHEST = 1 << 20  # characters that a place to cut is looked for in; scripts without spaces are cut anywhere then
# Where a text may be cut without a word being cut: before a space or line end with something in front of it.
BOUNDARY = re.compile(r"(?<=\S)[ \r\n]")


class BpeTokenizer(ByteTokenizer):
    """Ids 0 … 255 are the bytes; each of `merges`, two tokens as they are spelled, adds what both make together.

    Raises:
        ModelError: where the library is not installed.
    """

    kind, unit = "bpe", "token"

    def __init__(self, merges: Iterable[tuple[str, str]]) -> None:
        super().__init__()
        self.merges = [(first, second) for first, second in merges]
        alphabet = spelling()
        spelled = list(dict.fromkeys([*alphabet, *(first + second for first, second in self.merges)]))
        byte_of = {letter: byte for byte, letter in enumerate(alphabet)}
        self.tokens = [bytes(byte_of[letter] for letter in token) for token in spelled]
        self.fast = make_fast({token: index for index, token in enumerate(spelled)}, self.merges)

    @classmethod
    def of_pieces(cls, pieces: Iterable[str], vocabulary_size: int) -> Self:
        """Learn the merges of a text, up to `vocabulary_size` tokens, or as many as it has."""
        learner = make_fast({}, [])
        from tokenizers.trainers import BpeTrainer

        trainer = BpeTrainer(vocab_size=vocabulary_size, initial_alphabet=spelling(), show_progress=False)
        learner.train_from_iterator(in_words(pieces), trainer)
        return cls(json.loads(learner.to_str())["model"]["merges"])

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Self:
        """Make it of what a tokenizer.json holds."""
        return cls(document["merges"])

    def document(self) -> dict[str, Any]:
        """See `Tokenizer`."""
        return {"merges": [list(merge) for merge in self.merges]}

    def encode(self, text: str, start: int = 0) -> Ids:  # noqa: ARG002 - no text is refused
        """See `Tokenizer`."""
        parts = self.fast.encode_batch_fast(list(in_words([text])), add_special_tokens=False)
        return np.fromiter(chain.from_iterable(part.ids for part in parts), dtype=self.dtype)

    def encode_pieces(self, pieces: Iterable[str], start: int = 0) -> Iterator[Ids]:  # noqa: ARG002
        """See `Tokenizer`."""
        for words in in_words(pieces, PARTS * AT_ONCE):
            yield self.encode(words)


def in_words(pieces: Iterable[str], size: int = AT_ONCE) -> Iterator[str]:
    """Cut a text anew, into parts of `size` characters or some more, none of which ends within a word."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        start = 0
        while (end := _end_of_part(waiting, start + size)) is not None:
            yield waiting[start:end]
            start = end
        waiting = waiting[start:]
    if waiting:
        yield waiting


def _end_of_part(text: str, least: int) -> int | None:
    """Give where a part may end that goes to `least` or further; None where more text may show a better place."""
    found = BOUNDARY.search(text, least, least + FARTHEST)
    if found:
        return found.start()
    return least + FARTHEST if len(text) > least + FARTHEST else None


def spelling() -> list[str]:
    """Give the printable character that each byte is spelled with: its own in Latin-1 where that can be seen, or one
    from U+0100 on.
    """
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return [chr(byte) if byte in seen else chr(256 + hidden.index(byte)) for byte in range(256)]


def make_fast(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> "Fast":
    """Give the library's tokenizer.

    Raises:
        ModelError: where it is not installed.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    except ImportError:
        raise ModelError("tokenizers of kind 'bpe' need a library: pip install -e '.[bpe]'") from None
    fast = Tokenizer(models.BPE(vocabulary, merges))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    return fast
