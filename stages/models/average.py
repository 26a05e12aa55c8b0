"""The second rung: every position sees the plain average of itself and its past, a bag of words.

Expected to lose to the bigram: the last character, which says most, is one of many in the average.
"""

import torch
from torch import Tensor, nn

from stages.models.base import LanguageModel
from stages.models.layers import Embeddings
from stages.models.params import ModelParams


class Model(LanguageModel):
    """Embeddings, running mean, head."""

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__(params, vocabulary_size)
        self.embed = Embeddings(params, vocabulary_size)
        self.head = nn.Linear(params.n_embd, vocabulary_size, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, V)."""
        x = self.embed(ids)  # B, T, C
        seen = torch.arange(1, ids.shape[1] + 1, device=ids.device)
        logits: Tensor = self.head(x.cumsum(1) / seen[:, None])
        return logits
