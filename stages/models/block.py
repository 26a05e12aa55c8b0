"""The fifth rung: heads and feed-forward with residual paths and layer norm: one block of a transformer."""

from torch import Tensor, nn

from stages.models.base import LanguageModel
from stages.models.kv_cache import Cache
from stages.models.layers import Block, Embeddings
from stages.models.params import ModelParams


class Model(LanguageModel):
    """Embeddings, one block, norm, head."""

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__(params, vocabulary_size)
        self.embed = Embeddings(params, vocabulary_size)
        self.block = Block(params)
        self.norm = nn.LayerNorm(params.n_embd)
        self.head = nn.Linear(params.n_embd, vocabulary_size, bias=False)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, T) -> (B, T, V)."""
        x = self.embed(ids, cache.past if cache else 0)
        logits: Tensor = self.head(self.norm(self.block(x, cache)))
        return logits
