"""The fourth rung: several heads side by side, each looking for something else, and a projection that mixes them."""

from torch import Tensor, nn

from stages.models.base import LanguageModel
from stages.models.kv_cache import Cache
from stages.models.layers import Embeddings, Heads
from stages.models.params import ModelParams


class Model(LanguageModel):
    """Embeddings, `n_head` heads that share the width, projection, output head."""

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__(params, vocabulary_size)
        self.embed = Embeddings(params, vocabulary_size)
        self.attention = Heads(params.n_embd, params.n_head)
        self.project = nn.Linear(params.n_embd, params.n_embd)
        self.head = nn.Linear(params.n_embd, vocabulary_size, bias=False)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, T) -> (B, T, V)."""
        x = self.embed(ids, cache.past if cache else 0)
        logits: Tensor = self.head(self.project(self.attention(x, cache=cache)))
        return logits
