"""The second half of the notebook: averages of the past, self-attention, scaling, and matrix operations."""

from typing import Any

import torch
from torch import Tensor, nn

from stages.models.attention import attention

B, T = 4, 8
HEAD_SIZE = 16


def averages(seed: int) -> dict[str, Any]:
    """Return the running mean computed in three equivalent ways: loops, a product, and a softmax of a masked matrix."""
    torch.manual_seed(seed)
    x = torch.randn(B, T, 2)
    xbow = torch.zeros(B, T, 2)
    for b in range(B):
        for t in range(T):
            xbow[b, t] = x[b, : t + 1].mean(0)
    weights = torch.tril(torch.ones(T, T))
    weights = weights / weights.sum(1, keepdim=True)
    by_product = weights @ x
    by_softmax = torch.zeros(T, T).masked_fill(torch.tril(torch.ones(T, T)) == 0, -torch.inf).softmax(-1) @ x
    return {
        "v1": {"x_0": x[0].tolist(), "xbow_0": xbow[0].tolist()},
        "v2": {"weights": weights.tolist(), "xbow_0": by_product[0].tolist()},
        "v3": {"xbow_0": by_softmax[0].tolist()},
        "v2_equals_v1": torch.allclose(by_product, xbow, atol=1e-6),
        "v3_equals_v1": torch.allclose(by_softmax, xbow, atol=1e-6),
    }


def self_attention(seed: int) -> dict[str, Any]:
    """Return the results of one head of self-attention, without scaling, as it first appears in the notebook."""
    torch.manual_seed(seed)
    x = torch.randn(B, T, 32)
    key, query, value = (nn.Linear(32, HEAD_SIZE, bias=False) for _ in range(3))
    k, q, v = key(x), query(x), value(x)
    weights = (q @ k.mT).masked_fill(torch.tril(torch.ones(T, T)) == 0, -torch.inf).softmax(-1)
    ours = attention((q * HEAD_SIZE**0.5)[:, None], k[:, None], v[:, None])[:, 0]
    return {
        "weights_0": weights[0].tolist(),
        "out_0": (weights @ v)[0].tolist(),
        "shape_of_weights_at_x": list((weights @ x).shape),
        "shape_of_weights_at_v": list((weights @ v).shape),
        "folio_s_attention_gives_the_same": torch.allclose(ours, weights @ v, atol=1e-5),
    }


def scaling(seed: int) -> dict[str, Any]:
    """Return the variance of scores with and without scaling, and the softmax of both."""
    torch.manual_seed(seed)
    q, k = torch.randn(B, T, HEAD_SIZE), torch.randn(B, T, HEAD_SIZE)
    raw = q @ k.mT
    scaled = raw * HEAD_SIZE**-0.5
    return {
        "variance_of_q": q.var().item(),
        "variance_of_k": k.var().item(),
        "variance_raw": raw.var().item(),
        "variance_scaled": scaled.var().item(),
        "softmax_raw_0": raw[0, 0].softmax(-1).tolist(),
        "softmax_scaled_0": scaled[0, 0].softmax(-1).tolist(),
    }


def toy(seed: int) -> dict[str, Any]:
    """Return products that sum and average rows, the softmax of rows, and changes of shape."""
    torch.manual_seed(seed)
    a, b = torch.ones(3, 3), torch.randint(0, 10, (3, 2)).float()
    below = torch.tril(a)
    return {
        "b": b.tolist(),
        "a_at_b": (a @ b).tolist(),
        "tril_at_b": (below @ b).tolist(),
        "averaged": (below / below.sum(1, keepdim=True) @ b).tolist(),
        "softmax_of_large": _softmax([[5, 6, 7, 8], [1.1, 2.1, 3.1, 4.1]]),
        "softmax_of_small": _softmax([[0.0560, 0.4175, 0.3114, 0.9418], [0.9193, 0.1046, 0.0022, 0.0089]]),
        "shapes": shapes(torch.arange(12)),
    }


def shapes(x: Tensor) -> dict[str, Any]:
    """Compare `view`, which never copies but needs contiguous memory, with `reshape`, which copies if necessary."""
    grid = x.view(3, 4)
    transposed = grid.T
    try:
        transposed.view(12)
    except RuntimeError as error:
        view_error = str(error).split(".")[0]
    return {
        "view_3_4": grid.tolist(),
        "view_shares_memory": grid.data_ptr() == x.data_ptr(),
        "reshape_2_minus_1": x.reshape(2, -1).tolist(),
        "transpose": transposed.tolist(),
        "view_of_transpose_refused": view_error,
        "reshape_of_transpose": transposed.reshape(12).tolist(),
        "squeeze_of_1_12_1": list(x.view(1, 12, 1).squeeze().shape),
    }


def _softmax(rows: list[list[float]]) -> list[list[float]]:
    values: list[list[float]] = torch.tensor(rows).softmax(-1).tolist()
    return values
