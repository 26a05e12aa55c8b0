"""The third rung: one head of self-attention, so that the average's weights depend on what stands where."""

from torch import Tensor, nn

from stages.models.base import LanguageModel
from stages.models.kv_cache import Cache
from stages.models.layers import Embeddings, Heads
from stages.models.params import ModelParams


class Model(LanguageModel):
    """Embeddings, one head as wide as they are, output head."""

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__(params, vocabulary_size)
        self.embed = Embeddings(params, vocabulary_size)
        self.attention = Heads(params.n_embd, n_head=1)
        self.head = nn.Linear(params.n_embd, vocabulary_size, bias=False)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, T) -> (B, T, V)."""
        x = self.embed(ids, cache.past if cache else 0)
        logits: Tensor = self.head(self.attention(x, cache=cache))
        return logits
