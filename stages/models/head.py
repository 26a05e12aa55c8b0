"""The third model of the lecture: one attention head, whose weights depend on the tokens."""

from torch import Tensor, nn
from typing_extensions import override

from stages.models.base import LanguageModel
from stages.models.kv_cache import KVCache
from stages.models.lecture_layers import Embeddings, MultiHeadAttention
from stages.models.params import ModelParams


class SingleHead(LanguageModel):
    """Embeddings, one attention head of full width, output head."""

    supports_kv_cache = True

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__(params, vocab_size)
        self.embed = Embeddings(params, vocab_size)
        self.attention = MultiHeadAttention(params.n_embd, n_head=1)
        self.head = nn.Linear(params.n_embd, vocab_size, bias=False)

    @override
    def forward(self, ids: Tensor, *, kv_cache: KVCache | None = None, **_: object) -> Tensor:
        x = self.embed(ids, kv_cache)
        logits: Tensor = self.head(self.attention(x, kv_cache=kv_cache))
        return logits
