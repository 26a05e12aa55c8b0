"""The lecture's last model: many blocks, with dropout. `gpt` is its modern form."""

from torch import Tensor, nn

from stages.models.base import LanguageModel
from stages.models.kv_cache import Cache
from stages.models.layers import Block, Embeddings
from stages.models.params import ModelParams


class Model(LanguageModel):
    """Embeddings, `n_layer` blocks, norm, head."""

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__(params, vocabulary_size)
        self.embed = Embeddings(params, vocabulary_size)
        self.blocks = nn.ModuleList(Block(params) for _ in range(params.n_layer))
        self.norm = nn.LayerNorm(params.n_embd)
        self.head = nn.Linear(params.n_embd, vocabulary_size, bias=False)
        self.apply(_small)

    def forward(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, T) -> (B, T, V)."""
        x = self.embed(ids, cache.past if cache else 0)
        for block in self.blocks:
            x = block(x, cache)
        logits: Tensor = self.head(self.norm(x))
        return logits


def _small(module: nn.Module) -> None:
    """Draw weights from a normal distribution with deviation 0.02, as the lecture's program does, and zero biases."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
