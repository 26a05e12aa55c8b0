"""The loss over a whole text, window by window, so that two models can be compared."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from stages.models.base import LanguageModel

BINS = 20
MOST_LOGITS = 1 << 22  # at once: a model may keep a dozen arrays of that size


@dataclass(frozen=True)
class Windows:
    """Some windows of a text: what is seen, what follows, (B, T) int64, and the first position that is counted."""

    inputs: Tensor
    targets: Tensor
    first: int = 0


@dataclass(frozen=True)
class Calibration:
    """How often the likeliest token came, beside how likely it was, in BINS of equal width from 0 to 1.

    `confidence`, mean probability, `accuracy` and `counts` of tokens, (BINS,) each.
    """

    confidence: Tensor
    accuracy: Tensor
    counts: Tensor

    @property
    def error(self) -> float:
        """Give the expected calibration error, the mean difference of the two (Guo et al. 2017, arXiv:1706.04599)."""
        return float(((self.confidence - self.accuracy).abs() * self.counts).sum() / self.counts.sum())


@dataclass(frozen=True)
class Measured:
    """What a model did on a text.

    `loss` in nats per token; `accuracy` the part of tokens that were the likeliest; `by_position` the loss at
    each position of a window, (T,), and `counts` the tokens predicted there, (T,).
    """

    loss: float
    accuracy: float
    by_position: Tensor
    counts: Tensor
    calibration: Calibration


@torch.inference_mode()
def measure(model: LanguageModel, batches: Iterable[Windows]) -> Measured:
    """Predict what follows at every counted position of every window; the model is on the windows' device."""
    was_training = model.training
    model.eval()
    sums = torch.zeros(model.params.block_size, dtype=torch.float64)
    counts = torch.zeros(model.params.block_size, dtype=torch.int64)
    bins = torch.zeros(3, BINS, dtype=torch.float64)  # sums of confidences, of hits, and counts
    for batch in _few_at_once(batches, model.vocabulary_size):
        logits, targets = model(batch.inputs).float()[:, batch.first :], batch.targets[:, batch.first :]
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        place = slice(batch.first, batch.targets.shape[1])
        sums[place] += losses.double().sum(0).cpu()
        counts[place] += len(targets)
        bins += _binned(logits.flatten(0, 1), targets.flatten())
    model.train(was_training)
    total = int(counts.sum())
    in_bin = bins[2].clamp(min=1)
    calibration = Calibration(bins[0] / in_bin, bins[1] / in_bin, bins[2])
    return Measured(
        float(sums.sum()) / total, float(bins[1].sum()) / total, sums / counts.clamp(min=1), counts, calibration
    )


def _binned(logits: Tensor, targets: Tensor) -> Tensor:
    confidence, likeliest = logits.softmax(-1).max(-1)
    which = (confidence * BINS).long().clamp(max=BINS - 1).cpu()
    values = torch.stack((confidence, likeliest == targets, torch.ones_like(confidence))).double().cpu()
    return torch.zeros(3, BINS, dtype=torch.float64).index_add_(1, which, values)


@torch.inference_mode()
def token_losses(model: LanguageModel, batches: Iterable[Windows]) -> Iterator[Tensor]:
    """Give the loss, in nats, of every counted position of every window, (B, counted); for models that are trained."""
    for batch in _few_at_once(batches, model.vocabulary_size):
        logits, targets = model(batch.inputs).float()[:, batch.first :], batch.targets[:, batch.first :]
        yield F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)


def blockwise(tokens: Tensor, block_size: int, batch_size: int) -> Iterator[Windows]:
    """Cut a text, (N,), into consecutive windows, the last short one too: every token but the first is predicted
    once, and nothing before its window is seen.
    """
    yield from _in_batches(
        tokens, torch.arange(0, max(0, len(tokens) - block_size), block_size), block_size, batch_size
    )
    done = (len(tokens) - 1) // block_size * block_size
    rest = tokens[done:].long()
    if len(rest) > 1:
        yield Windows(rest[None, :-1], rest[None, 1:])


def sliding(tokens: Tensor, block_size: int, stride: int, batch_size: int) -> Iterator[Windows]:
    """Cut a text into windows that overlap: each predicts `stride` tokens that the one before did not, so that
    every token but the first ones is predicted once, with at least `block_size - stride` tokens before it.
    """
    head = tokens[: block_size + 1].long()
    yield Windows(head[None, :-1], head[None, 1:])
    starts = torch.arange(stride, max(stride, len(tokens) - block_size), stride)
    yield from _in_batches(tokens, starts, block_size, batch_size, first=block_size - stride)
    done = block_size + len(starts) * stride  # tokens predicted so far
    left = len(tokens) - 1 - done
    if left > 0:
        rest = tokens[-block_size - 1 :].long()
        yield Windows(rest[None, :-1], rest[None, 1:], len(rest) - 1 - left)


def spread(tokens: Tensor, block_size: int, count: int) -> Windows:
    """Take `count` windows spread evenly over a text, or as many as it has side by side, as one batch."""
    count = min(count, (len(tokens) - 1) // block_size)
    starts = torch.linspace(0, len(tokens) - 1 - block_size, count, dtype=torch.float64).long()
    return next(_in_batches(tokens, starts, block_size, count))


def _in_batches(tokens: Tensor, starts: Tensor, block_size: int, batch_size: int, first: int = 0) -> Iterator[Windows]:
    for at in range(0, len(starts), batch_size):
        positions = (starts[at : at + batch_size, None] + torch.arange(block_size)).to(tokens.device)
        yield Windows(tokens[positions].long(), tokens[positions + 1].long(), first)


def _few_at_once(batches: Iterable[Windows], vocabulary_size: int) -> Iterator[Windows]:
    for batch in batches:
        size = max(1, MOST_LOGITS // (batch.inputs.shape[1] * vocabulary_size))
        for inputs, targets in zip(torch.split(batch.inputs, size), torch.split(batch.targets, size), strict=True):
            yield Windows(inputs, targets, batch.first)
