"""Which token comes next, given what a model believes."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Choice:
    """How freely to draw.

    `temperature` divides the logits; 0 takes the likeliest token. `top_k`: among so many of the likeliest; 0: all.
    `top_p`: among the fewest likeliest that hold this much probability together (Holtzman et al. 2020,
    arXiv:1904.09751). `min_p`: among those at least this part as likely as the likeliest (Nguyen et al. 2024,
    arXiv:2407.01082). All act after the temperature, each on what the one before left.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def distribution(self, logits: Tensor) -> Tensor:
        """Give the probabilities that tokens are drawn by: (…, V) logits -> (…, V) float64."""
        if self.temperature == 0.0:
            return torch.zeros_like(logits, dtype=torch.float64).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
        p = (logits.double() / self.temperature).softmax(-1)
        if 0 < self.top_k < p.shape[-1]:
            p = _keep(p, p >= p.topk(self.top_k, dim=-1).values[..., -1:])
        if self.top_p < 1.0:
            ordered, order = p.sort(dim=-1, descending=True, stable=True)
            before = ordered.cumsum(-1) - ordered  # what likelier ones hold: the one that crosses the line stays
            p = _keep(p, torch.zeros_like(p, dtype=torch.bool).scatter(-1, order, before < self.top_p))
        if self.min_p > 0.0:
            p = _keep(p, p >= self.min_p * p.amax(-1, keepdim=True))
        return p

    def pick(self, logits: Tensor, luck: Tensor) -> Tensor:
        """Pick one id for each row of `logits`, (B, V): (B, 1).

        `luck`, (B,), between 0 and 1, says where in the cumulated distribution: the same number, the same token.
        """
        cumulated = self.distribution(logits).cumsum(-1)
        place = luck.double()[:, None] * cumulated[:, -1:]
        return torch.searchsorted(cumulated, place, right=True).clamp_(max=logits.shape[-1] - 1)


def _keep(p: Tensor, kept: Tensor) -> Tensor:
    p = p.where(kept, 0.0)
    return p / p.sum(-1, keepdim=True)
