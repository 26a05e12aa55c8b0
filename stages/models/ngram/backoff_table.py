"""A sparse table of next-token distributions that back off to shorter contexts.

The row of a context holds the tokens that followed it, with their discounted probabilities, and the weight of the next
shorter context: p(c | context) = row(c) + backoff_weight * p(c | shorter context). Row 0 stands for a context that is
unseen or must not be used: it has no tokens and backoff weight 1. Rows are ordered by context length, shortest first.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.models.ngram.counts import FloatArray, IntArray
from stages.models.ngram.text_sized_buffers import TextSizedBuffers

MAX_PADDED_ENTRIES = 1 << 24  # looked up at once outside the CPU
BUFFERS = ("first_rows", "offsets", "tokens", "probs", "backoff_weights", "totals", "dense")


class BackoffTable(TextSizedBuffers):
    """The rows as buffers.

    Args:
        persistent: whether the buffers are part of the state dict.

    Attributes:
        first_rows: index of the first row of each context length, (order,).
        offsets: where the tokens of each row begin, (rows + 1,).
        tokens: the tokens of all rows, concatenated.
        probs: their discounted probabilities.
        backoff_weights: weight of the next shorter context, (rows,).
        totals: sum of the Kneser–Ney counts after each context, (rows,); 0 in row 0.
        dense: the first rows as full distributions, (dense rows, V), because short contexts have many tokens.
        dense_levels: number of context lengths whose rows are in `dense`.
        max_row_lengths: number of tokens in the longest row of each context length.
    """

    first_rows: Tensor
    offsets: Tensor
    tokens: Tensor
    probs: Tensor
    backoff_weights: Tensor
    totals: Tensor
    dense: Tensor

    def __init__(self, persistent: bool = True) -> None:
        super().__init__()
        for name in BUFFERS:
            self.register_buffer(name, torch.empty(0), persistent=persistent)
        self.dense_levels, self.max_row_lengths = 0, list[int]()

    def forward(self, rows: Tensor) -> Tensor:
        """Return the next-token distributions at N positions, (N, V).

        Args:
            rows: (N, order); `rows[i, n]` is the row of the context of n tokens at position i, or 0 if that context is
                unseen or must not be used.
        """
        # Rows are ordered by context length, so the largest is that of the longest context in the dense part.
        probs = self.dense[rows[:, : self.dense_levels].amax(1)]
        if self.dense_levels >= rows.shape[1]:
            return probs
        if rows.device.type == "cpu":
            return self._add_entries(probs, rows[:, self.dense_levels :])
        for level in range(self.dense_levels, rows.shape[1]):
            probs = self._add_padded_entries(probs, rows[:, level], self.max_row_lengths[level])
        return probs

    def update_sizes(self) -> None:
        """Set the attributes that are not buffers, after the buffers have changed."""
        bounds = [*self.first_rows.tolist(), len(self.offsets) - 1]
        lengths = self.offsets.diff()
        self.dense_levels = sum(first < len(self.dense) for first in bounds[:-1])
        self.max_row_lengths = [int(lengths[start:end].max()) if end > start else 0 for start, end in pairwise(bounds)]

    def _add_entries(self, probs: Tensor, sparse_rows: Tensor) -> Tensor:
        """Return the distributions after all sparse levels, (N, V), from those before them.

        The work is proportional to the number of entries. How many there are depends on the rows, so that a GPU would
        have to wait.
        """
        count, vocab_size = probs.shape
        weights = self.backoff_weights[sparse_rows].flip(1).cumprod(1).flip(1)  # of everything below each length
        probs = probs * weights[:, :1]
        weights = torch.cat((weights[:, 1:], weights.new_ones(count, 1)), dim=1).flatten()
        entries, entry_rows = self._entries(sparse_rows.flatten())
        positions = torch.div(entry_rows, sparse_rows.shape[1], rounding_mode="floor")
        cells = positions * vocab_size + self.tokens[entries].long()
        probs.view(-1).scatter_add_(0, cells, self.probs[entries] * weights[entry_rows])
        return probs

    def _entries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the concatenated entries of `rows`, (M,), and the index into `rows` of each entry."""
        start, end = self.offsets[rows], self.offsets[rows + 1]
        nonempty = (end > start).nonzero().squeeze(1)
        start, length = start[nonempty].long(), (end - start)[nonempty].long()
        index = torch.repeat_interleave(length)
        before = length.cumsum(0) - length
        entries = (start - before)[index] + torch.arange(len(index), device=rows.device)
        return entries, nonempty[index]

    def _add_padded_entries(self, probs: Tensor, rows: Tensor, max_length: int) -> Tensor:
        """Return the distributions after one sparse level, (N, V), from those before it, without waiting for a GPU.

        Args:
            probs: distributions to back off to, (N, V).
            rows: rows of this level, (N,).
            max_length: tokens in the longest row, to which all rows are padded.
        """
        probs = probs * self.backoff_weights[rows][:, None]
        column = torch.arange(max_length, device=rows.device)
        size = max(1, MAX_PADDED_ENTRIES // max(1, max_length))
        for first in range(0, len(rows), size):
            part, part_rows = probs[first : first + size], rows[first : first + size, None]
            start, end = self.offsets[part_rows], self.offsets[part_rows + 1]
            inside = start + column < end
            entries = torch.where(inside, start + column, 0)
            part.scatter_add_(1, self.tokens[entries].long(), self.probs[entries] * inside)
        return probs

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        if len(self.offsets):
            self.update_sizes()


class BackoffTableBuilder:
    """Build a `BackoffTable` from counts, one context length after the other.

    Args:
        vocab_size: V.
        max_dense_entries: limit on the size of the dense part.
    """

    def __init__(self, vocab_size: int, max_dense_entries: int) -> None:
        self.vocab_size, self.max_dense_entries = vocab_size, max_dense_entries
        self.first_rows: list[int] = []
        self.row_count = 1
        self.row_lengths, self.tokens = [np.zeros(1, np.int64)], [np.zeros(0, np.uint8)]
        self.probs, self.backoff_weights = [np.zeros(0, np.float32)], [np.ones(1, np.float32)]
        self.totals = [np.zeros(1, np.float32)]
        self.dense: list[FloatArray] = [np.full((1, vocab_size), 1 / vocab_size, np.float32)]

    def add_level(
        self,
        num_rows: int,
        entry_rows: IntArray,
        tokens: IntArray,
        counts: IntArray,
        discounts: FloatArray,
        backoff_rows: IntArray | None = None,
    ) -> None:
        """Add the rows of the next context length.

        Args:
            num_rows: number of rows.
            entry_rows: row of each entry, from 0, ascending.
            tokens: token of each entry; distinct within a row.
            counts: count of each entry; may be 0 after counts were subtracted.
            discounts: what is subtracted from each count.
            backoff_rows: for each row, the row of the next shorter context, which only the dense part needs. None: row
                0, to which the empty context backs off.
        """
        totals = np.bincount(entry_rows, counts, num_rows)
        discounted = np.bincount(entry_rows, discounts, num_rows)
        positive = counts > 0
        entry_rows, tokens = entry_rows[positive], tokens[positive]
        probs = ((counts - discounts)[positive] / totals[entry_rows]).astype(np.float32)
        weights = np.divide(discounted, totals, out=np.ones(num_rows), where=totals > 0).astype(np.float32)
        if backoff_rows is None:
            backoff_rows = np.zeros(num_rows, np.int64)
        self._add_dense(num_rows, entry_rows, tokens, probs, weights, backoff_rows)
        self.first_rows.append(self.row_count)
        self.row_count += num_rows
        self.row_lengths.append(np.bincount(entry_rows, minlength=num_rows))
        self.tokens.append(tokens.astype(token_dtype(self.vocab_size)))
        self.probs.append(probs)
        self.backoff_weights.append(weights)
        self.totals.append(totals.astype(np.float32))

    def _add_dense(
        self,
        num_rows: int,
        entry_rows: IntArray,
        tokens: IntArray,
        probs: FloatArray,
        weights: FloatArray,
        backoff_rows: IntArray,
    ) -> None:
        dense_rows = sum(map(len, self.dense))
        is_unigram = not self.first_rows
        fits = (dense_rows + num_rows) * self.vocab_size <= self.max_dense_entries
        if dense_rows != self.row_count or not (is_unigram or fits):
            return
        table = np.concatenate(self.dense)[backoff_rows] * weights[:, None]
        table[entry_rows, tokens] += probs
        self.dense.append(table)

    def build(self, persistent: bool = True) -> BackoffTable:
        """Return the table."""
        table = BackoffTable(persistent)
        offsets = np.concatenate(([0], np.concatenate(self.row_lengths).cumsum()))
        table.first_rows = torch.tensor(self.first_rows)
        table.offsets = torch.from_numpy(offsets.astype(np.int32 if offsets[-1] < 2**31 else np.int64))
        table.tokens = torch.from_numpy(np.concatenate(self.tokens))
        table.probs = torch.from_numpy(np.concatenate(self.probs))
        table.backoff_weights = torch.from_numpy(np.concatenate(self.backoff_weights))
        table.totals = torch.from_numpy(np.concatenate(self.totals))
        table.dense = torch.from_numpy(np.concatenate(self.dense))
        table.update_sizes()
        return table


def token_dtype(vocab_size: int) -> type[np.integer[Any]]:
    """Return the smallest type for token ids that every device can index with and sort."""
    if vocab_size <= 1 << 8:
        return np.uint8
    return np.int16 if vocab_size <= 1 << 15 else np.int32
