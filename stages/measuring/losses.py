"""The loss over a whole text, in consecutive windows, so that two models can be compared."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from stages.models.base import LanguageModel


@dataclass(frozen=True)
class Measured:
    """What a model did on a text.

    `loss` in nats per character; `accuracy` the part of characters that were the likeliest; `by_position` the loss at
    each position of a window, (T,), and `counts` the characters predicted there, (T,).
    """

    loss: float
    accuracy: float
    by_position: Tensor
    counts: Tensor


@torch.inference_mode()
def measure(model: LanguageModel, tokens: Tensor, batch_size: int) -> Measured:
    """Predict every character of `tokens` but the first, once; nothing before a window is seen.

    Args:
        model: on the device of `tokens`.
        tokens: ids, (N,), N >= 2.
        batch_size: windows worked out at once.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(model.params.block_size, dtype=torch.float64)
    counts = torch.zeros(model.params.block_size, dtype=torch.int64)
    hits = 0
    for inputs, targets in windows(tokens, model.params.block_size, batch_size):
        logits = model(inputs).float()
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        length = targets.shape[1]
        sums[:length] += losses.double().sum(0).cpu()
        counts[:length] += len(targets)
        hits += int((logits.argmax(-1) == targets).sum())
    model.train(was_training)
    total = int(counts.sum())
    return Measured(float(sums.sum()) / total, hits / total, sums / counts.clamp(min=1), counts)


def windows(tokens: Tensor, block_size: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut `tokens` into consecutive windows, the last short one too; give inputs and targets, (B, T) int64."""
    full = (len(tokens) - 1) // block_size
    inputs = tokens[: full * block_size].view(full, block_size)
    targets = tokens[1 : full * block_size + 1].view(full, block_size)
    for start in range(0, full, batch_size):
        part = slice(start, start + batch_size)
        yield inputs[part].long(), targets[part].long()
    rest = tokens[full * block_size :].long()
    if len(rest) > 1:
        yield rest[None, :-1], rest[None, 1:]
