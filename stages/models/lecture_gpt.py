"""The last model of the lecture: a stack of transformer blocks with dropout. `gpt` is its modern form."""

from torch import Tensor, nn
from typing_extensions import override

from stages.models.base import LanguageModel
from stages.models.kv_cache import KVCache
from stages.models.lecture_layers import Embeddings, LectureBlock
from stages.models.params import ModelParams


class LectureGPT(LanguageModel):
    """Embeddings, `n_layer` blocks, layer norm, output head."""

    supports_kv_cache = True

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__(params, vocab_size)
        self.embed = Embeddings(params, vocab_size)
        self.blocks = nn.ModuleList(LectureBlock(params) for _ in range(params.n_layer))
        self.norm = nn.LayerNorm(params.n_embd)
        self.head = nn.Linear(params.n_embd, vocab_size, bias=False)
        self.apply(_init_weights)

    @override
    def forward(self, ids: Tensor, *, kv_cache: KVCache | None = None, **_: object) -> Tensor:
        x = self.embed(ids, kv_cache)
        for block in self.blocks:
            x = block(x, kv_cache)
        logits: Tensor = self.head(self.norm(x))
        return logits


def _init_weights(module: nn.Module) -> None:
    """Draw weights from a normal distribution with standard deviation 0.02, as in the lecture; set biases to zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
