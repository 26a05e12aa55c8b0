"""An adaptive loss: the model counts the validation text as it goes, as a compressor does."""

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
    """Return the mean loss of the tokens of a text but the first, each predicted from all of the text before it.

    Args:
        model: in evaluation mode; it has an n-gram model.
        train: the training text, (N,).
        tokens: the text that follows it, (M,).
        chunk_size: see `LanguageModel.adaptive_logits`.
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
