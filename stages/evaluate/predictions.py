"""Keep predictions of the validation text, and record attention, for the report."""

import numpy as np
import torch
from torch import Tensor

from stages.metrics.prediction_file import Predictions
from stages.models.attention import record_attention
from stages.models.base import LanguageModel

TOP_K = 5


class PredictionCollector:
    """Keeps the predictions of the first tokens of an evaluation; `evaluate_loss` calls it with each batch.

    Args:
        limit: the number of tokens.
    """

    def __init__(self, limit: int) -> None:
        self.remaining = limit
        self.batches: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []

    def __call__(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch: logits, (N, V), and the tokens that they predict, (N,)."""
        if not self.remaining:
            return
        logits, targets = logits[: self.remaining], targets[: self.remaining]
        self.remaining -= len(targets)
        top = logits.topk(min(TOP_K, logits.shape[-1]))
        log_normalizer = logits.logsumexp(-1, keepdim=True)  # avoids a second array as large as the logits
        log_probs = (logits.gather(-1, targets[:, None]) - log_normalizer).squeeze(1)
        self.batches.append((targets, log_probs, top.indices, (top.values - log_normalizer).exp()))

    def collected(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the tokens, (N,), their log-probabilities, and the TOP_K ids and probabilities, (N, TOP_K)."""
        token_ids, log_probs, top_ids, top_probs = (torch.cat(parts).cpu() for parts in zip(*self.batches, strict=True))
        return token_ids, log_probs, top_ids, top_probs


def assemble_predictions(
    collector: PredictionCollector, model: LanguageModel, attention_ids: Tensor, short_block_size: int, stride: int
) -> Predictions:
    """Return the predictions of an evaluation, and the attention weights of the model.

    Args:
        collector: holds the predictions.
        model: the model, in evaluation mode.
        attention_ids: the text of the attention maps, (T,).
        short_block_size: recorded for the report.
        stride: recorded for the report.
    """
    token_ids, log_probs, top_ids, top_probs = collector.collected()
    return Predictions(
        token_ids=token_ids.int().numpy(),
        log_probs=log_probs.numpy(),
        top_ids=top_ids.int().numpy(),
        top_probs=top_probs.numpy(),
        attention=attention_maps(model, attention_ids).numpy(),
        attention_ids=attention_ids.cpu().numpy().astype(np.int32),
        block_size=model.params.block_size,
        short_block_size=short_block_size,
        stride=stride,
    )


@torch.no_grad()
def attention_maps(model: LanguageModel, ids: Tensor) -> Tensor:
    """Return the attention weights for one text, (T,), as (layers, H, T, T); empty for a model without attention."""
    with record_attention() as weights:
        model(ids[None])
    return torch.stack(weights) if weights else torch.empty(0, 0, 0, 0)
