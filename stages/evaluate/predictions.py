"""What a model believes of each token of a text."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.metrics.losses import Windows, blockwise
from stages.models.base import LanguageModel

TOP = 5
AT_ONCE = 4096  # tokens


@dataclass(frozen=True)
class Predictions:
    """Of N tokens in a row: their ids, (N,), the log-probability of each, in nats, (N,), and the likeliest ids with
    their probabilities, best first, (N, TOP) both.
    """

    ids: Tensor
    log_p: Tensor
    top_ids: Tensor
    top_p: Tensor


@torch.inference_mode()
def predict(model: LanguageModel, tokens: Tensor, most: int) -> Predictions:
    """Predict the tokens of a text after its first, at most `most`, in consecutive windows of the block size."""
    block_size = model.params.block_size
    windows = blockwise(tokens[: most + 1], block_size, max(1, AT_ONCE // block_size))
    parts = [_one(model, batch) for batch in windows]
    return Predictions(*(torch.cat(each).cpu() for each in zip(*parts, strict=True)))


def _one(model: LanguageModel, batch: Windows) -> Iterator[Tensor]:
    logits = model(batch.inputs).float().flatten(0, 1)
    targets = batch.targets.flatten()
    top = logits.topk(min(TOP, logits.shape[-1]))
    total = logits.logsumexp(-1, keepdim=True)  # so that no second array as large as the logits is needed
    yield targets
    yield (logits.gather(-1, targets[:, None]) - total).squeeze(1)
    yield top.indices
    yield (top.values - total).exp()
