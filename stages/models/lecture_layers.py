"""The layers of the lecture's models: embeddings, multi-head attention, feed-forward network and block.

They follow Karpathy's lecture "Let's build GPT" (https://github.com/karpathy/ng-video-lecture): learned positions,
LayerNorm before each layer, ReLU, and PyTorch's default initialization, except in `lecture_gpt`, which draws weights as
the lecture does.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.models.attention import attention
from stages.models.kv_cache import KVCache
from stages.models.params import ModelParams


class Embeddings(nn.Module):
    """Token embedding plus position embedding: (B, T) -> (B, T, C)."""

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, params.n_embd)
        self.position = nn.Embedding(params.block_size, params.n_embd)

    def forward(self, ids: Tensor, kv_cache: KVCache | None = None) -> Tensor:
        """Return the embeddings; with a KV cache, positions continue after those in it."""
        start = kv_cache.append(ids) if kv_cache is not None else 0
        positions = torch.arange(start, start + ids.shape[1], device=ids.device)
        out: Tensor = self.token(ids) + self.position(positions)
        return out


class MultiHeadAttention(nn.Module):
    """Several attention heads side by side: (B, T, C) -> (B, T, C).

    Args:
        width: C.
        n_head: H.
        causal: False makes it an encoder.
    """

    def __init__(self, width: int, n_head: int, causal: bool = True) -> None:
        super().__init__()
        self.n_head, self.causal = n_head, causal
        self.key, self.query, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, x: Tensor, source: Tensor | None = None, kv_cache: KVCache | None = None) -> Tensor:
        """Attend from the positions of `x` to those of `source`, (B, S, C), by default `x` and the KV cache."""
        source = x if source is None else source
        q, k, v = (self._split(y) for y in (self.query(x), self.key(source), self.value(source)))
        if kv_cache is not None:
            k, v = kv_cache.extend(self, k, v)
        return attention(q, k, v, self.causal).transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.n_head, -1).transpose(1, 2)  # B, T, C -> B, H, T, E


class FeedForward(nn.Module):
    """Position-wise network with a hidden layer four times as wide: (B, T, C) -> (B, T, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return down(relu(up(x)))."""
        out: Tensor = self.down(F.relu(self.up(x)))
        return out


class LectureBlock(nn.Module):
    """Pre-norm transformer block: attention and feed-forward network, each added to its input."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        width = params.n_embd
        self.attention, self.attention_out = MultiHeadAttention(width, params.n_head), nn.Linear(width, width)
        self.mlp = FeedForward(width)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor, kv_cache: KVCache | None = None) -> Tensor:
        """Apply the block: (B, T, C) -> (B, T, C)."""
        x = x + self.dropout(self.attention_out(self.attention(self.norm_1(x), kv_cache=kv_cache)))
        out: Tensor = x + self.dropout(self.mlp(self.norm_2(x)))
        return out
