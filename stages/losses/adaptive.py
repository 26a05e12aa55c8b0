"""An adaptive loss: the model counts the validation text as it goes, as a compressor does."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from stages.losses.windows import Windows
from stages.models.base import LanguageModel


def recounting_windows(
    model: LanguageModel, train: Tensor, tokens: Tensor, batches: Iterable[Windows], pieces: int
) -> Iterator[Windows]:
    """Yield the windows of a text; between them, the model counts the text so far together with the training text.

    No token is counted before the batch that predicts it has been yielded. The model keeps the last counts.

    Args:
        model: in evaluation mode.
        train: the training text, (N,).
        tokens: the text of the windows, (M,).
        batches: windows that predict each token but the first once, in order.
        pieces: the model counts again after every M / `pieces` tokens, or after every batch if they are longer.
    """
    seen = counted = 1
    for batch in batches:
        if (seen - counted) * pieces >= len(tokens):
            model.recount(torch.cat((train, tokens[:seen])))
            counted = seen
        yield batch
        seen += batch.count
