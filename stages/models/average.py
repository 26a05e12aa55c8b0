"""The second model of the lecture: each position uses the mean of its own and all earlier embeddings.

It is expected to be worse than the bigram model, because the last token, which is the most informative one, is only one
of many in the mean.
"""

import torch
from torch import Tensor, nn
from typing_extensions import override

from stages.models.base import LanguageModel
from stages.models.lecture_layers import Embeddings
from stages.models.params import ModelParams


class Average(LanguageModel):
    """Embeddings, running mean, output head."""

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__(params, vocab_size)
        self.embed = Embeddings(params, vocab_size)
        self.head = nn.Linear(params.n_embd, vocab_size, bias=False)

    @override
    def forward(self, ids: Tensor, **_: object) -> Tensor:
        x = self.embed(ids)  # B, T, C
        weights = torch.ones(ids.shape[1], ids.shape[1], device=ids.device).tril()
        logits: Tensor = self.head(weights / weights.sum(1, keepdim=True) @ x)
        return logits
