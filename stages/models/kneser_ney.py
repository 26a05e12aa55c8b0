"""A rung without a gradient: interpolated modified Kneser–Ney, by counting (Chen & Goodman 1999).

Raw counts for the longest context, numbers of distinct characters seen before for shorter ones, three discounts a
length; the shortest context discounts by 0.5 and falls back to the uniform distribution.
"""

import numpy as np
import torch
from torch import Tensor

from stages.models.base import LanguageModel
from stages.models.ngram.backoff_table import Rows, RowsBuilder
from stages.models.ngram.counts import Floats, Ints, Level, count_ngrams, discounts
from stages.models.params import ModelParams

UNIGRAM_DISCOUNTS = np.array([0.0, 0.5, 0.5, 0.5])
DENSE_ENTRIES = 1 << 20


class Model(LanguageModel):
    """Counts of contexts up to `order - 1` characters.

    `rows` holds the probabilities, `keys_2` … the sorted keys by which contexts of two and more characters are found.
    """

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__(params, vocabulary_size)
        self.rows = Rows()
        for length in range(2, params.order):
            self.register_buffer(f"keys_{length}", torch.empty(0, dtype=torch.int64))

    def fit(self, tokens: Tensor) -> list[Level]:
        """Count a text, (N,) ids; give the counts, from which cross-fitting goes on."""
        levels = count_ngrams(tokens.cpu().numpy(), self.vocabulary_size, self.params.order)
        self.rows = build_rows(levels, self.vocabulary_size).to(tokens.device)
        for length in range(2, self.params.order):
            setattr(self, f"keys_{length}", torch.from_numpy(levels[length - 1].keys).to(tokens.device))
        return levels

    def forward(self, ids: Tensor) -> Tensor:
        """Give log-probabilities of the next character: (B, T) -> (B, T, V); nothing before the window is seen."""
        p: Tensor = self.rows(self.find(ids).flatten(0, 1))
        return p.view(*ids.shape, -1).log()

    def find(self, ids: Tensor) -> Tensor:
        """Give the rows, (B, T, order), of each position's contexts of 0 … order - 1 characters; 0: never seen."""
        batch, length = ids.shape
        base = self.rows.base
        rows = torch.zeros(batch, length, self.params.order, dtype=torch.int64, device=ids.device)
        rows[:, :, 0] = base[0]
        context = ids  # the id of the context that starts at each position, or -1
        for size in range(1, min(self.params.order, length + 1)):
            if size > 1:
                context = self._longer(context[:, :-1], ids[:, size - 1 :], self.get_buffer(f"keys_{size}"))
            rows[:, size - 1 :, size] = torch.where(context < 0, 0, context + base[size])
        return rows

    def _longer(self, context: Tensor, character: Tensor, keys: Tensor) -> Tensor:
        if not len(keys):  # the text was shorter than such a context
            return torch.full_like(character, -1)
        key = torch.where(context < 0, -1, context * self.vocabulary_size + character)
        at = torch.searchsorted(keys, key).clamp_(max=len(keys) - 1)
        return torch.where(keys[at] == key, at, -1)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for length in range(2, self.params.order):  # their sizes are the text's, which a fresh model does not know
            name = f"keys_{length}"
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *rest)


def build_rows(levels: list[Level], vocabulary_size: int) -> Rows:
    """Turn counts into rows of probabilities, one for each context that was seen."""
    builder = RowsBuilder(vocabulary_size, DENSE_ENTRIES)
    for index, level in enumerate(levels):
        owner = level.keys // vocabulary_size
        discount = level_discounts(index, np.bincount(np.minimum(level.counts, 5), minlength=6)[1:5])
        builder.add(
            rows=len(level.children) - 1,
            owner=owner,
            characters=level.keys % vocabulary_size,
            counts=level.counts,
            discount=discount[np.minimum(level.counts, 3)],
            shorter=shorter_rows(levels, index, builder.base),
        )
    return builder.build()


def level_discounts(index: int, counts_of_counts: Ints) -> Floats:
    """Give the discounts of counts 0 … 3+ for contexts of `index` characters."""
    return discounts(counts_of_counts) if index else UNIGRAM_DISCOUNTS


def shorter_rows(levels: list[Level], index: int, base: list[int]) -> Ints:
    """Give, for each context of `index` characters, the row of the context without its first character."""
    if index == 0:
        return np.zeros(1, np.int64)
    return base[index - 1] + (levels[index - 1].suffix if index > 1 else np.zeros(len(levels[0].keys), np.int64))
