"""The loop: a batch, its gradient, a step; and, now and then, a row of the learning curve."""

from dataclasses import astuple, dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own habit
from torch.optim import Muon

from stages.logs import log, progress_bar
from stages.measuring.losses import measure
from stages.models.base import LanguageModel
from stages.params.train import TrainParams
from stages.training.batches import random_batch
from stages.training.optimizers import make_optimizers
from stages.training.schedules import momentum_rise, trapezoid


@dataclass(frozen=True)
class Row:
    """One row of reports/train.tsv; `train_loss` is the mean since the row before, `val_loss` that of some windows."""

    step: int
    tokens: int
    train_loss: float
    val_loss: float
    lr: float


COLUMNS = tuple(field.name for field in fields(Row))


class Trainer:
    """A model on its way: weights, optimizers, generator, step and curve.

    Args:
        model: on the device that it shall be trained on.
        train: ids to learn from, (N,), on the same device.
        val: ids for the curve, (M,), on the same device.
        params: how to learn.
    """

    def __init__(self, model: LanguageModel, train: Tensor, val: Tensor, params: TrainParams) -> None:
        self.model = model
        self.train, self.val = train, spread(val, model.params.block_size, params.eval_windows)
        self.params = params
        self.optimizers = make_optimizers(model, params)
        self.generator = torch.Generator().manual_seed(params.seed)
        self.step_done = 0
        self.losses: list[Tensor] = []
        self.rows: list[Row] = []

    @property
    def tokens_seen(self) -> int:
        """Count the characters predicted in training so far."""
        return self.step_done * self.params.batch_size * self.model.params.block_size

    def run(self) -> None:
        """Take every step that is left."""
        self.model.train()
        with progress_bar() as progress:
            task = progress.add_task("train", total=self.params.max_steps, completed=self.step_done, note="")
            while self.step_done < self.params.max_steps:
                self.losses.append(self.take_step())
                if self.step_done % self.params.eval_every == 0 or self.step_done == self.params.max_steps:
                    self.add_row()
                if self.step_done % self.params.log_every == 0:
                    note = f"loss {float(self.losses[-1] if self.losses else self.rows[-1].train_loss):.3f}"
                    progress.update(task, note=note)
                    log.info("step %d of %d, %s", self.step_done, self.params.max_steps, note)
                progress.update(task, completed=self.step_done)

    def take_step(self) -> Tensor:
        """Learn from one batch; give its loss, a scalar on the device."""
        factor = self._set_rates()
        inputs, targets = random_batch(self.train, self.model.params.block_size, self.params.batch_size, self.generator)
        device = self.train.device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            logits = self.model(inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        if self.params.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.params.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step_done += 1
        self.lr = self.params.lr * factor
        return loss.detach()

    def add_row(self) -> None:
        """Measure, and put a row on the curve."""
        train_loss = float(torch.stack(self.losses).mean())
        val_loss = measure(self.model, self.val, self.params.eval_windows).loss
        self.losses.clear()
        self.rows.append(Row(self.step_done, self.tokens_seen, train_loss, val_loss, self.lr))

    def _set_rates(self) -> float:
        params = self.params
        factor = trapezoid(self.step_done, params.max_steps, params.warmup_steps, params.decay_fraction)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
                if isinstance(optimizer, Muon):
                    group["momentum"] = momentum_rise(self.step_done)
        return factor

    def table(self) -> list[tuple[int | float, ...]]:
        """Give the curve's rows, in the order of COLUMNS."""
        return [astuple(row) for row in self.rows]


def spread(val: Tensor, block_size: int, count: int) -> Tensor:
    """Take `count` windows spread evenly over `val`, or all of it where it has no more, as one text to measure."""
    if (len(val) - 1) // block_size <= count:
        return val
    starts = torch.linspace(0, len(val) - block_size, count).long()
    return torch.cat([val[start : start + block_size] for start in starts])
