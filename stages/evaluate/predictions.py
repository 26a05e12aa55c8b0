"""Predict the validation text, and record attention, for the report."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from stages.losses.windows import Windows, blockwise_windows
from stages.metrics.prediction_file import Predictions
from stages.models.attention import record_attention
from stages.models.base import LanguageModel

TOP = 5
TOKENS_PER_BATCH = 4096


def predict(
    model: LanguageModel, tokens: Tensor, attention_ids: Tensor, short_block_size: int, stride: int
) -> Predictions:
    """Return the predictions of a model in consecutive windows, and its attention weights.

    Args:
        model: in evaluation mode.
        tokens: beginning of the validation text, (N + 1,); all but the first are predicted.
        attention_ids: the text of the attention maps, (T,).
        short_block_size: recorded for the report.
        stride: recorded for the report.
    """
    token_ids, log_probs, top_ids, top_probs = predict_tokens(model, tokens)
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


@torch.inference_mode()
def predict_tokens(model: LanguageModel, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the tokens after the first, (N,), their log-probabilities, and the TOP ids and probabilities, (N, TOP)."""
    block_size = model.params.block_size
    windows = blockwise_windows(tokens, block_size, max(1, TOKENS_PER_BATCH // block_size))
    batches = [tuple(_predict_batch(model, batch)) for batch in windows]
    token_ids, log_probs, top_ids, top_probs = (torch.cat(parts).cpu() for parts in zip(*batches, strict=True))
    return token_ids, log_probs, top_ids, top_probs


@torch.no_grad()
def attention_maps(model: LanguageModel, ids: Tensor) -> Tensor:
    """Return the attention weights for one text, (T,), as (layers, H, T, T); empty for a model without attention."""
    with record_attention() as weights:
        model(ids[None])
    return torch.stack(weights) if weights else torch.empty(0, 0, 0, 0)


def _predict_batch(model: LanguageModel, batch: Windows) -> Iterator[Tensor]:
    logits = model(batch.inputs).float().flatten(0, 1)
    targets = batch.targets.flatten()
    top = logits.topk(min(TOP, logits.shape[-1]))
    log_normalizer = logits.logsumexp(-1, keepdim=True)  # avoids a second array as large as the logits
    yield targets
    yield (logits.gather(-1, targets[:, None]) - log_normalizer).squeeze(1)
    yield top.indices
    yield (top.values - log_normalizer).exp()
