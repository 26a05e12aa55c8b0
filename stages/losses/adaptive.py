"""The adaptive (online) loss: after each chunk of the validation text, counts and the output layer are updated."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.models.base import LanguageModel


@torch.no_grad()
def adaptive_loss(
    model: LanguageModel,
    train: Tensor,
    tokens: Tensor,
    chunk_size: int,
    advance: Callable[[int], None] = lambda _: None,
) -> float:
    """Return the mean loss of all tokens of a text but the first, under a model that adapts after each chunk of it.

    Args:
        model: the model, in evaluation mode; it has an n-gram model.
        train: the training text, (N,).
        tokens: the text that follows it, (M,).
        chunk_size: tokens after which the model adapts; see `LanguageModel.adaptive_logits`.
        advance: called with the number of tokens of each chunk.
    """
    text = torch.cat((train, tokens)).long()
    begin, total = len(train) + 1, 0.0
    for logits in model.adaptive_logits(text, begin, chunk_size):
        targets = text[begin : begin + logits.shape[1]]
        total += float(F.cross_entropy(logits[0], targets, reduction="sum"))
        begin += len(targets)
        advance(len(targets))
    return total / (len(tokens) - 1)
