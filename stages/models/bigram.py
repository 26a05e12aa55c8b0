"""The first model of the lecture: a table with the logits of the next token for each token."""

from torch import Tensor, nn
from typing_extensions import override

from stages.models.base import LanguageModel
from stages.models.params import ModelParams


class Bigram(LanguageModel):
    """`Embedding(V, V)`: row i holds the logits after token i; earlier tokens have no effect."""

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__(params, vocab_size)
        self.table = nn.Embedding(vocab_size, vocab_size)

    @property
    @override
    def context_length(self) -> int:
        return 1

    def forward(self, ids: Tensor, **_: object) -> Tensor:
        """Return the row of each token: (B, T) -> (B, T, V)."""
        logits: Tensor = self.table(ids)
        return logits
