"""An n-gram model: interpolated modified Kneser–Ney (Chen & Goodman 1999). It has no trainable parameters."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from stages.models.base import LanguageModel
from stages.models.ngram.adaptive_experts import AdaptiveCounts
from stages.models.ngram.backoff_table import BackoffTable
from stages.models.ngram.counts import NgramLevel, count_ngrams
from stages.models.ngram.ngram_memory import check_memory
from stages.models.ngram.smoothing import build_backoff_table
from stages.models.ngram.text_sized_buffers import TextSizedBuffers
from stages.models.params import ModelParams


class KneserNey(TextSizedBuffers, LanguageModel):
    """Smoothed n-grams with contexts of up to `ngram_order - 1` tokens.

    The buffer `keys_n` holds the sorted keys by which contexts of n tokens are found.
    """

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__(params, vocab_size)
        self.table = BackoffTable()
        for length in range(2, params.ngram_order):
            self.register_buffer(f"keys_{length}", torch.empty(0, dtype=torch.int64))

    @property
    @override
    def context_length(self) -> int:
        return self.params.ngram_order - 1

    @property
    @override
    def ngram_model(self) -> LanguageModel:
        return self

    def fit(self, tokens: Tensor, token_classes: Tensor | None = None) -> None:  # noqa: ARG002
        """Count the n-grams of the training text.

        Raises:
            WorkError: if there is not enough free memory.
        """
        check_memory(len(tokens), self.params.ngram_order, self.vocab_size, cross_fitting=False)
        self.count(tokens)

    @override
    def adaptive_logits(self, text: Tensor, start: int, chunk_size: int) -> Iterator[Tensor]:
        counts = AdaptiveCounts(text, self.vocab_size, self.params.ngram_order)
        for begin in range(start, len(text), chunk_size):
            end = min(begin + chunk_size, len(text))
            counts.read(begin)
            table, rows = counts.table_at(np.arange(begin - 1, end - 1))
            yield table.to(text.device)(rows.to(text.device))[None].log()

    def count(self, tokens: Tensor) -> list[NgramLevel]:
        """Count the n-grams of a text, (N,), and return the counts, which cross-fitting continues from."""
        levels = count_ngrams(tokens.cpu().numpy(), self.vocab_size, self.params.ngram_order)
        self.table = build_backoff_table(levels, self.vocab_size).to(tokens.device)
        for length in range(2, self.params.ngram_order):
            setattr(self, f"keys_{length}", torch.from_numpy(levels[length - 1].keys).to(tokens.device))
        return levels

    def forward(self, ids: Tensor, **_: object) -> Tensor:
        """Return log-probabilities of the next token, (B, T) -> (B, T, V), without context before the window."""
        probs: Tensor = self.table(self.find_rows(ids).flatten(0, 1))
        return probs.view(*ids.shape, -1).log()

    def find_rows(self, ids: Tensor) -> Tensor:
        """Return the table rows of the contexts of 0 … order - 1 tokens at each position, (B, T, order); 0: unseen."""
        batch, length = ids.shape
        first_rows = self.table.first_rows
        rows = torch.zeros(batch, length, self.params.ngram_order, dtype=torch.int64, device=ids.device)
        rows[:, :, 0] = first_rows[0]
        context = ids  # id of the context that begins at each position, or -1
        for size in range(1, min(self.params.ngram_order, length + 1)):
            if size > 1:
                context = self._extend_context(context[:, :-1], ids[:, size - 1 :], self.get_buffer(f"keys_{size}"))
            rows[:, size - 1 :, size] = torch.where(context < 0, 0, context + first_rows[size])
        return rows

    def _extend_context(self, context: Tensor, token: Tensor, keys: Tensor) -> Tensor:
        if not len(keys):  # the training text was shorter than such a context
            return torch.full_like(token, -1)
        key = torch.where(context < 0, -1, context * self.vocab_size + token)
        index = torch.searchsorted(keys, key).clamp_(max=len(keys) - 1)
        return torch.where(keys[index] == key, index, -1)
