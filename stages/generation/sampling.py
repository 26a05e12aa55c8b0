"""Sample the next token from the logits of a model."""

import torch
from torch import Tensor

from stages.generation.params import SamplingParams


def token_distribution(logits: Tensor, params: SamplingParams) -> Tensor:
    """Return the probabilities to sample from: (…, V) logits -> (…, V) float64."""
    if params.temperature == 0.0:
        return torch.zeros_like(logits, dtype=torch.float64).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    logits = logits.double()
    # Less than or equal to 0, so that no temperature makes them infinite.
    probs = ((logits - logits.amax(-1, keepdim=True)) / params.temperature).softmax(-1)
    if 0 < params.top_k < probs.shape[-1]:
        probs = _filter(probs, probs >= probs.topk(params.top_k, dim=-1).values[..., -1:])
    if params.top_p < 1.0:
        ordered, order = probs.sort(dim=-1, descending=True, stable=True)
        more_likely = ordered.cumsum(-1) - ordered  # the token that crosses the threshold is kept
        mask = torch.zeros_like(probs, dtype=torch.bool).scatter(-1, order, more_likely < params.top_p)
        probs = _filter(probs, mask)
    if params.min_p > 0.0:
        probs = _filter(probs, probs >= params.min_p * probs.amax(-1, keepdim=True))
    return probs


def sample_token(logits: Tensor, uniforms: Tensor, params: SamplingParams) -> Tensor:
    """Return one token per row of `logits`, (B, V), by inverting the cumulative distribution: (B, 1).

    Args:
        logits: logits of the next token, (B, V).
        uniforms: numbers between 0 and 1, (B,); equal numbers select equal tokens.
        params: how to sample.
    """
    cumulative = token_distribution(logits, params).cumsum(-1)
    thresholds = uniforms.double()[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, thresholds, right=True).clamp_(max=logits.shape[-1] - 1)


def _filter(probs: Tensor, mask: Tensor) -> Tensor:
    probs = probs.where(mask, 0.0)
    return probs / probs.sum(-1, keepdim=True)
