"""Scaled dot-product attention, for every model that attends.

Shapes: queries (B, H, T, E), keys and values (B, H, S, E). Scores are scaled by 1 / sqrt(E).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

_recordings: list[list[Tensor]] = []


def attention(q: Tensor, k: Tensor, v: Tensor, causal: bool = True, window: int = 0) -> Tensor:
    """Return the output of attention, (B, H, T, E).

    Args:
        q: queries.
        k: keys.
        v: values.
        causal: whether a position attends only to itself and earlier ones (a decoder). The queries are then the last T
            of the S positions. If False, every query attends to every key: an encoder, or cross-attention.
        window: number of positions that a position attends to, itself included; 0 for all.
    """
    if _recordings:
        _recordings[-1].append(attention_weights(q, k, causal, window)[0].detach().float().cpu())
    if not causal:
        return F.scaled_dot_product_attention(q, k, v)
    length = q.shape[2]
    past = k.shape[2] - length
    if 0 < window < length:
        q = F.pad(q, (0, 0, past, 0)) if past else q
        return sliding_window_attention(q, k, v, window)[:, :, past:]
    if past:
        mask = attention_mask(length, k.shape[2], window, q.device)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def sliding_window_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Return the output of causal attention to the last `window` positions, (B, H, T, E), where S = T.

    The sequence is split into chunks of `window` positions that attend to themselves and the previous chunk, so the
    cost is linear in T (as in Child et al. 2019, arXiv:1904.10509, and the Longformer, arXiv:2004.05150).
    """
    batch, heads, length, size = q.shape
    padding = -length % window
    chunks = (length + padding) // window

    def split(x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, padding)).reshape(batch * heads, chunks, window, size)

    def split_with_previous(x: Tensor) -> Tensor:
        x = split(x)
        previous = F.pad(x[:, :-1], (0, 0, 0, 0, 1, 0))
        return torch.cat((previous, x), dim=2)

    mask = _chunk_mask(chunks, window, q.device)
    keys, values = split_with_previous(k), split_with_previous(v)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:  # faster there (docs/experiments.md)
        scores = split(q) * size**-0.5 @ keys.mT + torch.where(mask, 0.0, -1e4).to(q.dtype)
        out: Tensor = scores.softmax(-1) @ values
    else:
        out = F.scaled_dot_product_attention(split(q), keys, values, attn_mask=mask)
    out = out.reshape(batch, heads, length + padding, size)
    return out[:, :, :length]


def attention_mask(length: int, total: int, window: int, device: torch.device) -> Tensor:
    """Return which of `total` keys each of the last `length` positions attends to, (T, S), True for yes."""
    query = torch.arange(total - length, total, device=device)[:, None]
    key = torch.arange(total, device=device)
    mask = key <= query
    return mask & (key > query - window) if window else mask


def attention_weights(q: Tensor, k: Tensor, causal: bool, window: int) -> Tensor:
    """Return the weights of attention, (B, H, T, S); each row sums to one."""
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if causal:
        mask = attention_mask(q.shape[2], k.shape[2], window, q.device)
        scores = scores.masked_fill(~mask, -torch.inf)
    weights: Tensor = scores.softmax(-1)
    return weights


@contextmanager
def record_attention() -> Iterator[list[Tensor]]:
    """Collect the attention weights, (H, T, S), of the first text of the batch in every layer that runs inside."""
    weights: list[Tensor] = []
    _recordings.append(weights)
    try:
        yield weights
    finally:
        _recordings.pop()


def _chunk_mask(chunks: int, window: int, device: torch.device) -> Tensor:
    """Return which keys of the previous and its own chunk each query attends to, (1, chunks, window, 2 * window)."""
    query = torch.arange(window, device=device)[:, None] + window
    key = torch.arange(2 * window, device=device)
    near = (key <= query) & (key > query - window)
    mask = near.repeat(1, chunks, 1, 1)  # four dimensions, which the fused kernel requires
    mask[0, 0, :, :window] = False  # the first chunk has no previous one
    return mask
