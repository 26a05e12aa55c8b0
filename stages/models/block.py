"""The fifth model of the lecture: one transformer block, with residual connections and layer norm."""

from torch import Tensor, nn
from typing_extensions import override

from stages.models.base import LanguageModel
from stages.models.kv_cache import KVCache
from stages.models.lecture_layers import Embeddings, LectureBlock
from stages.models.params import ModelParams


class SingleBlock(LanguageModel):
    """Embeddings, one block, layer norm, output head."""

    supports_kv_cache = True

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__(params, vocab_size)
        self.embed = Embeddings(params, vocab_size)
        self.block = LectureBlock(params)
        self.norm = nn.LayerNorm(params.n_embd)
        self.head = nn.Linear(params.n_embd, vocab_size, bias=False)

    @override
    def forward(self, ids: Tensor, *, kv_cache: KVCache | None = None, **_: object) -> Tensor:
        x = self.embed(ids, kv_cache)
        logits: Tensor = self.head(self.norm(self.block(x, kv_cache)))
        return logits
