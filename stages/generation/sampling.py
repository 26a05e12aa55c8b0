"""Sample the next token from the logits of a model."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from stages.core.params import Section


class SamplingParams(Section):
    """How tokens are sampled. The filters apply after the temperature, each to what the previous one left.

    Attributes:
        temperature: divides the logits; 0 selects the most likely token.
        top_k: sample from this many of the most likely tokens; 0 for all.
        top_p: sample from the fewest most likely tokens with this total probability (Holtzman et al. 2020,
            arXiv:1904.09751).
        min_p: sample from the tokens with at least this share of the highest probability (Nguyen et al. 2024,
            arXiv:2407.01082).
    """

    temperature: float = Field(default=1.0, ge=0.0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)

    def distribution(self, logits: Tensor) -> Tensor:
        """Return the probabilities to sample from: (…, V) logits -> (…, V) float64."""
        if self.temperature == 0.0:
            return torch.zeros_like(logits, dtype=torch.float64).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        probs = (logits.double() / self.temperature).softmax(-1)
        if 0 < self.top_k < probs.shape[-1]:
            probs = _filter(probs, probs >= probs.topk(self.top_k, dim=-1).values[..., -1:])
        if self.top_p < 1.0:
            ordered, order = probs.sort(dim=-1, descending=True, stable=True)
            more_likely = ordered.cumsum(-1) - ordered  # the token that crosses the threshold is kept
            mask = torch.zeros_like(probs, dtype=torch.bool).scatter(-1, order, more_likely < self.top_p)
            probs = _filter(probs, mask)
        if self.min_p > 0.0:
            probs = _filter(probs, probs >= self.min_p * probs.amax(-1, keepdim=True))
        return probs

    def sample_from(self, logits: Tensor, uniforms: Tensor) -> Tensor:
        """Return one token per row of `logits`, (B, V), by inverting the cumulative distribution: (B, 1).

        Args:
            logits: of the next token, (B, V).
            uniforms: numbers between 0 and 1, (B,); equal numbers select equal tokens.
        """
        cumulative = self.distribution(logits).cumsum(-1)
        thresholds = uniforms.double()[:, None] * cumulative[:, -1:]
        return torch.searchsorted(cumulative, thresholds, right=True).clamp_(max=logits.shape[-1] - 1)


class GenerationParams(SamplingParams):
    """How a text is continued.

    Attributes:
        max_new_tokens: number of tokens to generate.
        stop: a sample ends before the first of these texts.
        seed: of the sample.
    """

    max_new_tokens: int = Field(default=500, ge=1)
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default=[])
    seed: int = Field(default=1337, ge=0, lt=2**63)


def _filter(probs: Tensor, mask: Tensor) -> Tensor:
    probs = probs.where(mask, 0.0)
    return probs / probs.sum(-1, keepdim=True)
