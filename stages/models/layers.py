"""What the lecture's rungs are built from: embeddings, many heads, feed-forward, block.

The forms are those of Karpathy's lecture "Let's build GPT" (https://github.com/karpathy/ng-video-lecture): learned
positions, LayerNorm before each part, ReLU, torch's default initialization.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from stages.models.attention import attend
from stages.models.kv_cache import Cache
from stages.models.params import ModelParams


class Embeddings(nn.Module):
    """What stands at a position, plus where it stands: (B, T) -> (B, T, C)."""

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary_size, params.n_embd)
        self.position = nn.Embedding(params.block_size, params.n_embd)

    def forward(self, ids: Tensor, past: int = 0) -> Tensor:
        """Add the two, after `past` positions: attention by itself has no notion of order."""
        out: Tensor = self.token(ids) + self.position(torch.arange(past, past + ids.shape[1], device=ids.device))
        return out


class Heads(nn.Module):
    """Heads of attention side by side: (B, T, C) -> (B, T, C).

    `causal=False` makes an encoder of it, and keys and values may come from another sequence.
    """

    def __init__(self, width: int, n_head: int, causal: bool = True) -> None:
        super().__init__()
        self.n_head, self.causal = n_head, causal
        self.key, self.query, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))

    def forward(self, x: Tensor, other: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """Let the positions of `x` look at those of `other`, (B, S, C), or at their own and those in the cache."""
        source = x if other is None else other
        q, k, v = (self._split(y) for y in (self.query(x), self.key(source), self.value(source)))
        if cache:
            k, v = cache.extend(self, k, v)
        causal = self.causal and x.shape[1] > 1  # one new position may see all that is there
        return attend(q, k, v, causal).transpose(1, 2).flatten(2)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.n_head, -1).transpose(1, 2)  # B, T, C -> B, H, T, C / H


class FeedForward(nn.Module):
    """Each position thinks about what it heard: (B, T, C) -> (B, T, C), four times as wide in between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Widen, ReLU, narrow."""
        out: Tensor = self.down(F.relu(self.up(x)))
        return out


class Block(nn.Module):
    """Communication, then computation, each on a normalised copy and added to what was there."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        width = params.n_embd
        self.heads, self.project = Heads(width, params.n_head), nn.Linear(width, width)
        self.think = FeedForward(width)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.drop = nn.Dropout(params.dropout)

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Speak, then think: (B, T, C) -> (B, T, C)."""
        x = x + self.drop(self.project(self.heads(self.norm_1(x), cache=cache)))
        out: Tensor = x + self.drop(self.think(self.norm_2(x)))
        return out
