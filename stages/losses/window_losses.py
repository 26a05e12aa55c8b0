"""The loss, accuracy and calibration of a model over a whole text, window by window."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.losses.windows import Windows
from stages.models.base import LanguageModel

CALIBRATION_BINS = 20
MAX_LOGITS = 1 << 22  # computed at once; a model may hold a dozen arrays of this size


@dataclass(frozen=True)
class Calibration:
    """The confidence and accuracy of the most likely token, in CALIBRATION_BINS bins of equal width from 0 to 1.

    Attributes:
        confidence: mean probability of the most likely token, (CALIBRATION_BINS,).
        accuracy: how often it was the correct one, (CALIBRATION_BINS,).
        counts: predictions per bin, (CALIBRATION_BINS,).
    """

    confidence: Tensor
    accuracy: Tensor
    counts: Tensor

    @property
    def error(self) -> float:
        """Return the expected calibration error (Guo et al. 2017, arXiv:1706.04599)."""
        return float(((self.confidence - self.accuracy).abs() * self.counts).sum() / self.counts.sum())


@dataclass(frozen=True)
class LossReport:
    """The loss, accuracy and calibration of a model on a text.

    Attributes:
        loss: mean loss in nats per token.
        accuracy: how often the most likely token is correct.
        loss_by_position: mean loss at each position of a window, (T,).
        num_scored: number of scored predictions at each position, (T,).
        calibration: calibration of the probability of the most likely token.
        token_losses: losses of all scored positions, in the order of the windows.
    """

    loss: float
    accuracy: float
    loss_by_position: Tensor
    num_scored: Tensor
    calibration: Calibration
    token_losses: Tensor


@torch.inference_mode()
def evaluate_loss(
    model: LanguageModel, batches: Iterable[Windows], observe: Callable[[Tensor, Tensor], None] | None = None
) -> LossReport:
    """Return the mean loss, accuracy and calibration over all scored positions.

    Args:
        model: the model.
        batches: the windows.
        observe: called with the logits, (N, V), and the targets, (N,), of each batch.
    """
    was_training = model.training
    model.eval()
    loss_sums = torch.zeros(model.params.block_size, dtype=torch.float64)
    counts = torch.zeros(model.params.block_size, dtype=torch.int64)
    bins = torch.zeros(3, CALIBRATION_BINS, dtype=torch.float64)  # sums of confidence, of hits, and counts
    all_losses = list[Tensor]()
    for batch in _limit_logits(batches, model.vocab_size):
        logits, targets, losses = _window_losses(model, batch)
        positions = slice(batch.first_scored, batch.targets.shape[1])
        losses = losses.cpu()
        all_losses.append(losses.flatten())
        loss_sums[positions] += losses.double().sum(0)  # MPS has no float64
        counts[positions] += len(targets)
        logits, targets = logits.flatten(0, 1), targets.flatten()
        bins += _calibration_bins(logits, targets)
        if observe:
            observe(logits, targets)
    model.train(was_training)
    total = int(counts.sum())
    bin_counts = bins[2].clamp(min=1)
    calibration = Calibration(bins[0] / bin_counts, bins[1] / bin_counts, bins[2])
    return LossReport(
        loss=float(loss_sums.sum()) / total,
        accuracy=float(bins[1].sum()) / total,
        loss_by_position=loss_sums / counts.clamp(min=1),
        num_scored=counts,
        calibration=calibration,
        token_losses=torch.cat(all_losses),
    )


@torch.inference_mode()
def token_losses(model: LanguageModel, batches: Iterable[Windows]) -> Iterator[Tensor]:
    """Yield the loss of every scored position in nats, (B, scored); the model is in evaluation mode."""
    for batch in _limit_logits(batches, model.vocab_size):
        yield _window_losses(model, batch)[2]


def _window_losses(model: LanguageModel, batch: Windows) -> tuple[Tensor, Tensor, Tensor]:
    """Return the logits, (B, scored, V), targets and losses, (B, scored), of the scored positions."""
    logits = model.predict_from(batch.inputs, batch.first_scored, batch.train_positions).float()
    targets = batch.targets[:, batch.first_scored :]
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    return logits, targets, losses


def _calibration_bins(logits: Tensor, targets: Tensor) -> Tensor:
    confidence, most_likely = logits.softmax(-1).max(-1)
    indices = (confidence * CALIBRATION_BINS).long().clamp(0, CALIBRATION_BINS - 1).cpu()  # NaN: 0
    values = torch.stack((confidence, most_likely == targets, torch.ones_like(confidence))).cpu().double()
    return torch.zeros(3, CALIBRATION_BINS, dtype=torch.float64).index_add_(1, indices, values)


def _limit_logits(batches: Iterable[Windows], vocab_size: int) -> Iterator[Windows]:
    for batch in batches:
        size = max(1, MAX_LOGITS // (batch.inputs.shape[1] * vocab_size))
        yield from batch.batches(size)
