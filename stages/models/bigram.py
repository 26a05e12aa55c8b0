"""The first rung: a table that holds, for each character, the logits of the next one."""

from torch import Tensor, nn

from stages.models.base import LanguageModel
from stages.models.params import ModelParams


class Model(LanguageModel):
    """`Embedding(V, V)`: row i holds the logits after character i; what stood before i is not looked at."""

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__(params, vocabulary_size)
        self.table = nn.Embedding(vocabulary_size, vocabulary_size)

    def forward(self, ids: Tensor) -> Tensor:
        """Look up the row of each character: (B, T) -> (B, T, V)."""
        logits: Tensor = self.table(ids)
        return logits
