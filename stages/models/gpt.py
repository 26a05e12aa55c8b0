"""The last rung: a transformer in a modern form, small enough to read on two screens.

Pre-norm blocks; RMSNorm without parameters, after the embedding as well; rotary positions (Su et al. 2021,
arXiv:2104.09864); norms on queries and keys; squared ReLU (So et al. 2021, arXiv:2109.08668); no biases; an output
head of its own; logits capped by 15 tanh(z / 15). What writes into the residual stream starts at zero, so that a fresh
model is the identity and its first loss is ln V.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from stages.models.base import LanguageModel
from stages.params.model import ModelParams

ROTARY_BASE = 1000.0
LOGIT_CAP = 15.0


class Model(LanguageModel):
    """Embedding, `n_layer` blocks, head."""

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__(params, vocabulary_size)
        self.embedding = nn.Embedding(vocabulary_size, params.n_embd)
        self.blocks = nn.ModuleList(Block(params) for _ in range(params.n_layer))
        self.head = nn.Linear(params.n_embd, vocabulary_size, bias=False)
        nn.init.zeros_(self.head.weight)
        cos, sin = rotary_table(params.block_size, params.n_embd // params.n_head)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, V); T is at most the block size."""
        length = ids.shape[1]
        cos, sin = self.get_buffer("cos")[:length], self.get_buffer("sin")[:length]
        x = norm(self.embedding(ids))
        for block in self.blocks:
            x = block(x, cos, sin)
        return LOGIT_CAP * torch.tanh(self.head(norm(x)).float() / LOGIT_CAP)


class Block(nn.Module):
    """Positions speak (attention), then each thinks (feed-forward); both add to the residual stream."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        width = params.n_embd
        self.n_head, self.dropout = params.n_head, params.dropout
        self.query, self.key, self.value = (hidden(width, width) for _ in range(3))
        self.project = silent(width, width)
        self.up = hidden(width, 4 * width)
        self.down = silent(4 * width, width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C); a position sees itself and what stands before it."""
        x = x + self._drop(self._attend(norm(x), cos, sin))
        return x + self._drop(self.down(F.relu(self.up(norm(x))).square()))

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        batch, length, width = x.shape  # B, T, C
        q, k, v = (
            layer(x).view(batch, length, self.n_head, -1).transpose(1, 2)  # B, H, T, C / H
            for layer in (self.query, self.key, self.value)
        )
        q, k = rotate(norm(q), cos, sin), rotate(norm(k), cos, sin)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: Tensor = self.project(y.transpose(1, 2).reshape(batch, length, width))
        return out

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def norm(x: Tensor) -> Tensor:
    """Scale the last dimension to a root mean square of one (Zhang & Sennrich 2019, arXiv:1910.07467)."""
    return F.rms_norm(x, (x.shape[-1],))


def rotary_table(length: int, size: int) -> tuple[Tensor, Tensor]:
    """Give cosines and sines of the angle position · base^(-2i/size), each (length, size / 2)."""
    speeds = ROTARY_BASE ** (-torch.arange(0, size, 2) / size)
    angles = torch.outer(torch.arange(length), speeds)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pair (i, i + half) of `x`, (B, H, T, size), by its position's angle."""
    a, b = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def hidden(fan_in: int, fan_out: int) -> nn.Linear:
    """Make a matrix, uniform in ±sqrt(3) · 0.5 / sqrt(fan_in), so that Muon's first steps matter."""
    layer = nn.Linear(fan_in, fan_out, bias=False)
    bound = 3**0.5 * 0.5 * fan_in**-0.5
    nn.init.uniform_(layer.weight, -bound, bound)
    return layer


def silent(fan_in: int, fan_out: int) -> nn.Linear:
    """Make a matrix of zeros: a block that says nothing until it has learned to."""
    layer = nn.Linear(fan_in, fan_out, bias=False)
    nn.init.zeros_(layer.weight)
    return layer
