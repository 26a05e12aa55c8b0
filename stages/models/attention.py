"""Attention, for every rung that has it: each query takes an average of the values, weighted by how keys fit it.

Shapes: queries (B, H, T, E), keys and values (B, H, S, E), E the size of a head; scaled by 1 / sqrt(E).
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own habit


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Let every query look at the keys: (B, H, T, E).

    `causal=True` is a decoder: a position looks at itself and back. `causal=False` is an encoder, or, with keys and
    values of another sequence, cross-attention.
    """
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


def attend_locally(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Let every position look at itself and the `window - 1` positions before it: (B, H, T, E).

    In chunks of `window` that see themselves and the chunk before, so that the work grows with T, not with its square
    (as in Child et al. 2019, arXiv:1904.10509, and the Longformer, arXiv:2004.05150).
    """
    batch, heads, length, size = q.shape
    pad = -length % window
    chunks = (length + pad) // window

    def cut(x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, pad)).reshape(batch * heads, chunks, window, size)

    def with_previous(x: Tensor) -> Tensor:
        x = cut(x)
        previous = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0))
        return torch.cat((previous, x), dim=2)

    mask = local_mask(chunks, window, q.device)
    keys, values = with_previous(k), with_previous(v)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:  # written out, five times as fast as the fused kernel
        scores = cut(q) * size**-0.5 @ keys.mT + torch.where(mask, 0.0, -1e4).to(q.dtype)
        out: Tensor = scores.softmax(-1) @ values
    else:
        out = F.scaled_dot_product_attention(cut(q), keys, values, attn_mask=mask)
    out = out.reshape(batch, heads, length + pad, size)
    return out[:, :, :length]


def local_mask(chunks: int, window: int, device: torch.device) -> Tensor:
    """Say which keys, of the chunk before and its own, each query of a chunk may see: (chunks, window, 2 · window)."""
    query = torch.arange(window, device=device)[:, None] + window
    key = torch.arange(2 * window, device=device)
    near = (key <= query) & (key > query - window)
    mask = near.repeat(chunks, 1, 1)
    mask[0, :, :window] = False  # before the first chunk there is nothing
    return mask
