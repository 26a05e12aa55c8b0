"""A transformer block of `gpt`, and the functions that it consists of."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.models.attention import attention
from stages.models.kv_cache import KVCache
from stages.models.params import ModelParams

ROTARY_BASE = 1000.0


class GPTBlock(nn.Module):
    """Attention followed by a position-wise feed-forward network; both add to the residual stream."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        width = params.n_embd
        self.n_head, self.dropout = params.n_head, params.dropout
        self.window = attention_window(params)
        self.qkv = uniform_parameter(3, width, width)
        self.attention_out = zero_parameter(width, width)
        self.mlp_up = uniform_parameter(4 * width, width)
        self.mlp_down = zero_parameter(width, 4 * width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, kv_cache: KVCache | None = None) -> Tensor:
        """Apply the block: (B, T, C) -> (B, T, C); cos and sin are the rotary tables, (T, 1, 1, E / 2)."""
        x = x + self._drop(self._attend(norm(x), cos, sin, kv_cache))
        return x + self._drop(linear(F.relu(linear(norm(x), self.mlp_up)).square(), self.mlp_down))

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor, kv_cache: KVCache | None) -> Tensor:
        batch, length, width = x.shape
        qkv = linear(x, self.qkv.flatten(0, 1)).view(batch, length, 3, self.n_head, -1)  # B, T, 3, H, E
        q, k = rotate(norm(qkv[:, :, :2]), cos, sin).unbind(2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), qkv[:, :, 2].transpose(1, 2)  # B, H, T, E
        if kv_cache is not None:
            k, v = kv_cache.extend(self, k, v)
        y = attention(q, k, v, window=self.window)
        return linear(y.transpose(1, 2).reshape(batch, length, width), self.attention_out)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def attention_window(params: ModelParams) -> int:
    """Return the number of positions that a position attends to, itself included."""
    return min(params.sliding_window or params.block_size, params.block_size)


def norm(x: Tensor) -> Tensor:
    """Scale the last dimension to a root mean square of one (Zhang & Sennrich 2019, arXiv:1910.07467)."""
    return F.rms_norm(x, (x.shape[-1],), eps=1e-6)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply (…, in) by a weight, (out, in), in the precision of `x`."""
    return F.linear(x, weight.to(x.dtype))


def rotary_table(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of the angles position * base^(-2i / size), (positions, size / 2) each."""
    angles = torch.outer(positions, rotary_frequencies(size).to(positions.device))
    return angles.cos(), angles.sin()


def rotary_frequencies(size: int) -> Tensor:
    """Return base^(-2i / size), (size / 2,)."""
    return ROTARY_BASE ** (-torch.arange(0, size, 2) / size)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (i, i + half) of the last dimension of `x` by the angle of its position."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def uniform_parameter(*shape: int) -> nn.Parameter:
    """Return a weight drawn uniformly, with mean 0 and standard deviation 0.5 / sqrt(inputs)."""
    bound = 3**0.5 * 0.5 * shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def zero_parameter(*shape: int) -> nn.Parameter:
    """Return a weight of zeros."""
    return nn.Parameter(torch.zeros(shape))
