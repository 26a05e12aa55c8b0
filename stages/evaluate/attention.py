"""What each head looks at: the weights that attention worked out inside a model, worked out again outside it."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from stages.models import gpt
from stages.models.base import LanguageModel
from stages.models.layers import Heads


@torch.no_grad()
def attention_weights(model: LanguageModel, ids: Tensor) -> list[Tensor]:
    """Give the weights of each layer, (H, T, T), from a query's position to a key's, for one text, (T,).

    A model without attention gives an empty list.
    """
    found: list[Tensor] = []
    handles = []
    for module in model.modules():
        if isinstance(module, gpt.Block | Heads):
            compute = _of_block if isinstance(module, gpt.Block) else _of_heads
            handles.append(module.register_forward_pre_hook(partial(_keep, found, compute)))
    model(ids[None])
    for handle in handles:
        handle.remove()
    return found


def _keep(found: list[Tensor], compute: Any, module: nn.Module, inputs: tuple[Any, ...]) -> None:  # noqa: ANN401
    found.append(compute(module, *inputs)[0].float().cpu())


def _of_block(block: gpt.Block, x: Tensor, cos: Tensor, sin: Tensor, *_: object) -> Tensor:
    qkv = gpt.linear(gpt.norm(x), block.qkv.flatten(0, 1)).view(*x.shape[:2], 3, block.n_head, -1)
    q, k = gpt.rotate(gpt.norm(qkv[:, :, :2]), cos, sin).unbind(2)
    return _softmax(q.transpose(1, 2), k.transpose(1, 2), block.window)


def _of_heads(heads: Heads, x: Tensor, *_: object) -> Tensor:
    q, k = (layer(x).view(*x.shape[:2], heads.n_head, -1).transpose(1, 2) for layer in (heads.query, heads.key))
    return _softmax(q, k, 0)


def _softmax(q: Tensor, k: Tensor, window: int) -> Tensor:
    length = q.shape[2]
    seen = torch.ones(length, length, dtype=torch.bool, device=q.device).tril()
    if window:
        seen = seen.triu(1 - window)
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~seen, -torch.inf)
    weights: Tensor = scores.softmax(-1)
    return weights
