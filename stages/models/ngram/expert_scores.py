"""How well each expert has predicted the last tokens, from which the network learns which expert to trust.

Context mixing compressors such as paq and zpaq adapt the weights of their models to recent errors in the same spirit
(Mahoney 2005, "Adaptive Weighing of Context Models"). Here the errors are inputs of the network, and the weights follow
from them by what the network has learned.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.core.device import cached_tensor

HORIZONS = (4.0, 16.0, 64.0)  # tokens over which the log-probabilities are averaged
INITIAL_LOG_PROB, MIN_LOG_PROB = -2.0, -12.0  # before the first token; the lowest that counts
FIRST_SCALE, DIFFERENCE_SCALE = 2.4, 8.0


class ExpertScores:
    """Exponential moving averages of the log-probabilities that the experts gave to the tokens of a text so far."""

    def __init__(self) -> None:
        self.averages: Tensor | None = None  # B, horizons, experts
        self.log_probs: Tensor | None = None  # of the next token, (B, experts, V)

    def extend(self, ids: Tensor, log_probs: Tensor) -> Tensor:
        """Append tokens to each text and return the features at each of them, (B, T, horizons * experts).

        Args:
            ids: the tokens, (B, T).
            log_probs: what the experts predict after each of them, (B, T, experts, V).
        """
        batch, length, experts, _ = log_probs.shape
        rates = 1 / cached_tensor(HORIZONS, log_probs.device)
        if self.averages is None or self.log_probs is None:  # nothing predicted the first token
            self.averages = log_probs.new_full((batch, len(HORIZONS), experts), INITIAL_LOG_PROB)
            first = log_probs.new_full((batch, 1, experts), INITIAL_LOG_PROB)
        else:
            first = _log_probs_of(ids[:, :1], self.log_probs[:, None])
        scores = torch.cat((first, _log_probs_of(ids[:, 1:], log_probs[:, :-1])), dim=1)
        averages = scores[:, :, None] * rates[:, None]  # B, T, horizons, experts
        averages[:, 0] += self.averages * (1 - rates)[:, None]
        decay, reach = (1 - rates)[:, None], 1
        while reach < length:  # prefix scan by doubling: each pass doubles the tokens that an average covers
            earlier = averages[:, :-reach] * decay
            averages = averages + F.pad(earlier, (0, 0, 0, 0, reach, 0))
            decay, reach = decay.square(), 2 * reach
        self.averages, self.log_probs = averages[:, -1], log_probs[:, -1].clone()
        return _features(averages)

    def step(self, ids: Tensor, log_probs: Tensor) -> Tensor:
        """Append one token to each text, (B,), as `extend` does: (B, experts, V) -> (B, horizons * experts)."""
        assert self.averages is not None, "extend the text first"
        assert self.log_probs is not None, "extend the text first"
        scores = _log_probs_of(ids, self.log_probs)
        rates = 1 / cached_tensor(HORIZONS, log_probs.device)[:, None]
        self.averages, self.log_probs = torch.lerp(self.averages, scores[:, None], rates), log_probs
        return _features(self.averages)


def num_score_features(experts: int) -> int:
    """Return the number of features."""
    return len(HORIZONS) * experts


def _log_probs_of(ids: Tensor, log_probs: Tensor) -> Tensor:
    """Return the log-probabilities of given tokens: (…), (…, experts, V) -> (…, experts)."""
    index = ids[..., None, None].expand(*ids.shape, log_probs.shape[-2], 1)
    return log_probs.gather(-1, index).squeeze(-1).clamp(min=MIN_LOG_PROB)


def _features(averages: Tensor) -> Tensor:
    """Return the averages of the first expert and the differences of the others from it, scaled to about -5 … 5.

    (…, horizons, experts) -> (…, horizons * experts)
    """
    first, others = averages[..., :1], averages[..., 1:]
    features = ((first - INITIAL_LOG_PROB) * FIRST_SCALE, (others - first) * DIFFERENCE_SCALE)
    return torch.cat(features, dim=-1).flatten(-2)
