"""Contexts other than the last tokens: the words so far, and the line above.

To an n-gram model, `this` before a space, `this` before a line break and `This` are different contexts. A word context
treats them as one as soon as the next word has begun. In a table, what matters is above. Compressors of text have
models for both (Mahoney 2005, "Adaptive Weighing of Context Models").

A context is identified by a key, a hash of 32 bits. Contexts with equal keys share their counts; among a million
contexts, about a hundred pairs collide.

`token_classes` says what each token is, (3, V) int64, as returned by `Tokenizer.token_classes`. Row 0 is an id
of its letters and digits, ignoring case, or 0 if it has none. Row 1 is 1 if it begins with another character, which
ends the word before it. Row 2 is 1 if it ends a line.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

CONTEXT_KINDS = ("word", "line")
CONTEXTS_PER_KIND = 2  # the shorter one first
PRIME, MULTIPLIER = 0x100000001B3, 0x1B873593CC9E2D  # odd, so invertible modulo 2^64; PRIME is that of FNV-1a
INVERSE = pow(PRIME, -1, 1 << 64)


@dataclass(frozen=True)
class Words:
    """The words at the end of texts. A word is a hash of its letters and digits, or 0 if it has none so far.

    Attributes:
        current: the word so far.
        previous: the word before it.
        second_previous: the word before that.
    """

    current: Tensor
    previous: Tensor
    second_previous: Tensor


def context_keys(ids: Tensor, token_classes: Tensor) -> Tensor:
    """Return the keys of the contexts that end at each position of each window, (kinds, CONTEXTS_PER_KIND, B, T) int64.

    Args:
        ids: token ids, (B, T); nothing before a window is part of its contexts.
        token_classes: what each token is, (3, V).
    """
    position = torch.arange(ids.shape[1], device=ids.device)
    start, start_above = line_starts(ids, token_classes[2])
    above = start_above + position + 1 - start
    tokens_above = [
        torch.where(index < start, ids.gather(1, index.clamp(max=ids.shape[1] - 1)), -1) for index in (above, above + 1)
    ]
    return hash_contexts(ids, find_words(ids, token_classes)[0], tokens_above)


def hash_contexts(ids: Tensor, words: Words, tokens_above: list[Tensor]) -> Tensor:
    """Return the keys of contexts, (kinds, CONTEXTS_PER_KIND, …) int64.

    Args:
        ids: the last token, of any shape.
        words: the last words. Between two words, the last token is part of the context.
        tokens_above: the token above the next one and the one after that, -1 if there is none.
    """
    separator = torch.where(words.current == 0, ids, -1)
    one_word = _extend_hash(_extend_hash(words.current, words.previous), separator)
    two_words = _extend_hash(one_word, words.second_previous)
    one_above = _extend_hash(tokens_above[0], ids)
    two_above = _extend_hash(one_above, tokens_above[1])
    keys = torch.stack((one_word, two_words, one_above, two_above))
    keys = torch.bitwise_right_shift(_xor_shift(keys, 29) * MULTIPLIER, 32)
    return keys.view(len(CONTEXT_KINDS), CONTEXTS_PER_KIND, *ids.shape)


def find_words(ids: Tensor, token_classes: Tensor) -> tuple[Words, Tensor]:
    """Return the words at each position of windows, (B, T), and the power of PRIME that the next token gets, (B, T).

    A word begins at a token that starts with a separator; this token has index 0. A window that begins inside a word
    lacks that token, so its first token has index 1. The hash of a word is the sum of id * PRIME^index over its tokens,
    modulo 2^64: a difference of prefix sums, shifted by a power of INVERSE.
    """
    word_numbers, starts_word, _ = token_classes
    length = ids.shape[1]
    position = torch.arange(length, device=ids.device)
    starts = starts_word[ids].bool()
    start = torch.where(starts, position, 0).cummax(1).values
    first = torch.where((start == 0) & ~starts[:, :1], 1, 0)  # a window that begins in a word lacks its separator
    prime_powers = powers(PRIME, length + 2, ids.device)
    sums = F.pad((word_numbers[ids] * prime_powers[:length]).cumsum(1), (1, 0))
    scale = powers(INVERSE, length, ids.device)[start] * prime_powers[first]
    word = (sums[:, 1:] - sums.gather(1, start)) * scale
    ends = F.pad(starts[:, 1:] & (word[:, :-1] != 0), (0, 1))
    latest_end = F.pad(torch.where(ends, position, -1).cummax(1).values, (1, 0), value=-1)
    end = latest_end.gather(1, start)
    previous = _gather(word, end)
    return Words(word, previous, _gather(previous, end)), prime_powers[position + 1 - start + first]


def line_starts(ids: Tensor, ends_line: Tensor) -> tuple[Tensor, Tensor]:
    """Return, for each position of windows, (B, T), where the line of the next token begins, and the line above it."""
    position = torch.arange(ids.shape[1], device=ids.device)
    start = torch.where(ends_line[ids].bool(), position + 1, 0).cummax(1).values
    return start, torch.where(start >= 2, start.gather(1, (start - 2).clamp(min=0)), 0)


def powers(base: int, count: int, device: torch.device) -> Tensor:
    """Return base^0, base^1, … modulo 2^64, (count,)."""
    signed = base - (1 << 64) if base >= 1 << 63 else base
    return F.pad(torch.full((max(0, count - 1),), signed, device=device).cumprod(0), (1, 0), value=1)[:count]


class TorchWordLineContexts:
    """The keys of the contexts of texts that grow by one token at a time; `context_keys` computes them for windows.

    Args:
        ids: the texts so far, (B, T).
        token_classes: what each token is, (3, V).
        size: tokens to keep. A context may begin before them, but what is above is only found among them.

    Attributes:
        ids: the kept tokens, (B, at most `size`).
        keys: keys of the contexts that end at each of them, (kinds, CONTEXTS_PER_KIND, B, at most `size`).
    """

    def __init__(self, ids: Tensor, token_classes: Tensor, size: int) -> None:
        self.ids, self.token_classes, self.size = ids, token_classes, size
        self.keys = context_keys(ids, token_classes)
        words, power = find_words(ids, token_classes)
        self.words = Words(words.current[:, -1], words.previous[:, -1], words.second_previous[:, -1])
        self.power = power[:, -1]
        # Counted from the first kept token.
        self.start, self.start_above = (starts[:, -1] for starts in line_starts(ids, token_classes[2]))

    def step(self, ids: Tensor) -> None:
        """Append one token to each text, (B,)."""
        word_numbers, starts_word, ends_line = self.token_classes[:, ids]
        words, starts = self.words, starts_word.bool()
        is_complete = starts & (words.current != 0)
        power = torch.where(starts, 1, self.power)
        self.words = words = Words(
            torch.where(starts, 0, words.current) + word_numbers * power,
            torch.where(is_complete, words.current, words.previous),
            torch.where(is_complete, words.previous, words.second_previous),
        )
        self.power = power * PRIME
        ends = ends_line.bool()
        self.start_above = torch.where(ends, self.start, self.start_above)
        self.start = torch.where(ends, self.ids.shape[1] + 1, self.start)
        self.ids = torch.cat((self.ids, ids[:, None]), dim=1)
        above = self.start_above + self.ids.shape[1] - self.start
        tokens_above = [self._token_at(index) for index in (above, above + 1)]
        keys = hash_contexts(ids, words, tokens_above)
        self.keys = torch.cat((self.keys, keys[..., None]), dim=-1)
        if self.ids.shape[1] > self.size:
            self.ids, self.keys = self.ids[:, 1:], self.keys[..., 1:]
            self.start, self.start_above = self.start - 1, self.start_above - 1

    def _token_at(self, index: Tensor) -> Tensor:
        """Return the token of the line above at an index, (B,), or -1 if that is not above or not kept."""
        length = self.ids.shape[1]
        token = self.ids.gather(1, index.clamp(0, length - 1)[:, None])[:, 0]
        return torch.where((index >= 0) & (index < self.start), token, -1)


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """Return the values at given positions of each window, (B, T), and 0 where the index is negative."""
    return torch.where(index < 0, 0, values.gather(1, index.clamp(min=0)))


def _extend_hash(key: Tensor, value: Tensor) -> Tensor:
    """Return the key of a context that is longer by a value."""
    return (_xor_shift(key, 31) * MULTIPLIER + value + 1) * PRIME


def _xor_shift(key: Tensor, bits: int) -> Tensor:
    """Return a key whose lower bits depend on its higher ones."""
    return key ^ torch.bitwise_right_shift(key, bits)
