"""Sparse rows of probabilities, one for each context, and how they add up to a distribution.

A row holds the characters that followed a context, with their discounted probabilities, and `gamma`, the weight of the
next shorter context: p(c | context) = row(c) + gamma * p(c | shorter context). Row 0 is the context that was never seen
or may not be seen: no characters, gamma 1. Rows are numbered by context length, shortest first.
"""

import numpy as np
import torch
from torch import Tensor, nn

from stages.models.ngram.counts import Floats, Ints

BUFFERS = ("base", "offsets", "characters", "probabilities", "gamma", "dense")


class Rows(nn.Module):
    """Rows as tensors that a model saves and moves.

    base: number of the first row of each context length, (order,).
    offsets: where each row's characters start, (rows + 1,).
    characters, probabilities: those of all rows, end to end.
    gamma: (rows,).
    dense: the first rows as whole distributions, (some rows, V): short contexts have long rows, which this spares.
    """

    base: Tensor
    offsets: Tensor
    characters: Tensor
    probabilities: Tensor
    gamma: Tensor
    dense: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in BUFFERS:
            self.register_buffer(name, torch.empty(0))

    def forward(self, rows: Tensor) -> Tensor:
        """Give the distributions, (N, V), of positions whose rows are given, (N, order): one of each length, or 0."""
        count, size = len(rows), self.dense.shape[1]
        in_dense = int((self.base < len(self.dense)).sum())
        p = self.dense[rows[:, :in_dense].amax(1)]
        deep = rows[:, in_dense:]
        if deep.shape[1] == 0:
            return p
        weight = self.gamma[deep].flip(1).cumprod(1).flip(1)  # of what lies below each length
        p = p * weight[:, :1]
        weight = torch.cat((weight[:, 1:], weight.new_ones(count, 1)), dim=1).flatten()
        entry, owner = self._entries(deep.flatten())
        cell = torch.div(owner, deep.shape[1], rounding_mode="floor") * size + self.characters[entry].long()
        p.view(-1).scatter_add_(0, cell, self.probabilities[entry] * weight[owner])
        return p

    def _entries(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Give, end to end, the entries of all `rows`, (M,), and for each the index of its row."""
        start, end = self.offsets[rows], self.offsets[rows + 1]
        some = (end > start).nonzero().squeeze(1)
        start, length = start[some].long(), (end - start)[some].long()
        which = torch.repeat_interleave(length)
        before = length.cumsum(0) - length
        entry = (start - before)[which] + torch.arange(len(which), device=rows.device)
        return entry, some[which]

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for name in BUFFERS:  # their sizes are the text's, which a fresh model does not know
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


class RowsBuilder:
    """Collects rows, length by length, into a `Rows`.

    Args:
        vocabulary_size: V.
        dense_entries: most numbers that may be held as whole distributions.
    """

    def __init__(self, vocabulary_size: int, dense_entries: int) -> None:
        self.size, self.dense_entries = vocabulary_size, dense_entries
        self.base: list[int] = []
        self.count = 1
        self.lengths, self.characters = [np.zeros(1, np.int64)], [np.zeros(0, np.uint8)]
        self.probabilities, self.gamma = [np.zeros(0, np.float32)], [np.ones(1, np.float32)]
        self.dense: list[Floats] = [np.full((1, vocabulary_size), 1 / vocabulary_size, np.float32)]

    def add(self, rows: int, owner: Ints, characters: Ints, counts: Ints, discount: Floats, shorter: Ints) -> None:
        """Add the rows of the next context length.

        Args:
            rows: how many.
            owner: for each entry, its row, from 0, ascending.
            characters: for each entry, the character; each row's are distinct.
            counts: for each entry; 0 where only other entries' subtraction is left.
            discount: for each entry, what is taken from its count.
            shorter: for each row, the number of the next shorter context's row.
        """
        total = np.bincount(owner, counts, rows)
        held = np.bincount(owner, discount, rows)
        some = counts > 0
        owner, characters = owner[some], characters[some]
        probabilities = ((counts - discount)[some] / total[owner]).astype(np.float32)
        gamma = np.divide(held, total, out=np.ones(rows), where=total > 0).astype(np.float32)
        self._add_dense(rows, owner, characters, probabilities, gamma, shorter)
        self.base.append(self.count)
        self.count += rows
        self.lengths.append(np.bincount(owner, minlength=rows))
        self.characters.append(characters.astype(np.min_scalar_type(self.size - 1)))
        self.probabilities.append(probabilities)
        self.gamma.append(gamma)

    def _add_dense(
        self, rows: int, owner: Ints, characters: Ints, probabilities: Floats, gamma: Floats, shorter: Ints
    ) -> None:
        held = sum(map(len, self.dense))
        shortest = not self.base
        if held != self.count or not (shortest or (held + rows) * self.size <= self.dense_entries):
            return
        table = np.concatenate(self.dense)[shorter] * gamma[:, None]
        table[owner, characters] += probabilities
        self.dense.append(table)

    def build(self) -> Rows:
        """Give the rows as tensors."""
        rows = Rows()
        offsets = np.concatenate(([0], np.concatenate(self.lengths).cumsum()))
        rows.base = torch.tensor(self.base)
        rows.offsets = torch.from_numpy(offsets.astype(np.int32 if offsets[-1] < 2**31 else np.int64))
        rows.characters = torch.from_numpy(np.concatenate(self.characters))
        rows.probabilities = torch.from_numpy(np.concatenate(self.probabilities))
        rows.gamma = torch.from_numpy(np.concatenate(self.gamma))
        rows.dense = torch.from_numpy(np.concatenate(self.dense))
        return rows
