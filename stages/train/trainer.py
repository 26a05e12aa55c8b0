"""The loop: a batch, its gradient, a step; and, now and then, a row of the learning curve."""

import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit
from torch.optim import Optimizer

from stages.core.errors import WorkError
from stages.core.logs import log, progress_bar
from stages.metrics.losses import Windows, measure
from stages.models.base import LanguageModel
from stages.train.batches import Batch, Batches
from stages.train.distributed import Processes
from stages.train.muon import Muon
from stages.train.params import TrainParams
from stages.train.schedule import momentum_rise, trapezoid
from stages.train.sharding import whole


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
    """A model on its way: weights, optimizers, batches, step and curve.

    Args:
        model: on the device that it shall be trained on.
        batches: what it learns from.
        optimizers: made for the model's weights.
        val: windows that the curve's validation loss is measured on.
        params: how to learn.
        compiled: the model as torch.compile made it, or the model itself.
        processes: which of several this is.
    """

    def __init__(
        self,
        model: LanguageModel,
        batches: Batches,
        optimizers: list[Optimizer],
        val: Windows,
        params: TrainParams,
        compiled: nn.Module,
        processes: Processes | None = None,
    ) -> None:
        self.model, self.batches, self.optimizers, self.val, self.params = model, batches, optimizers, val, params
        self.compiled = compiled
        self.average = [weight.detach().clone() for weight in model.parameters()] if params.average else []
        self.processes = processes or Processes()
        self.best: list[Tensor] = []  # the weights of the row with the lowest val_loss, where those are kept
        self.step = 0
        self.seconds = 0.0  # of training, those before a stop as well
        self.losses: list[Tensor] = []  # since the last row, on the device, so that a GPU need not wait for each
        self.rows: list[Row] = []

    @property
    def tokens_seen(self) -> int:
        """Count the tokens predicted in training so far."""
        return self.step * self.params.accumulate * self.batches.batch_size * self.batches.block_size

    @property
    def place(self) -> float:
        """Give how far training is, in steps: where time runs out sooner than steps do, as far as time is."""
        in_time = self.seconds / self.params.max_seconds if self.params.max_seconds else 0.0
        return max(self.step, in_time * self.params.max_steps)

    @property
    def done(self) -> bool:
        """Say whether steps or time have run out, or `patience` rows have brought nothing."""
        if self.place >= self.params.max_steps:
            return True
        losses = [row.val_loss for row in self.rows]
        return 0 < self.params.patience < len(losses) - losses.index(min(losses)) if losses else False

    def run(
        self, after_step: Callable[[], None] = lambda: None, after_row: Callable[[Row], None] = lambda _: None
    ) -> None:
        """Take every step that is left, and end with the averaged or the best weights where there are such.

        Args:
            after_step: called after every step but the last, when the trainer is in a state to go on from.
            after_row: called with every new row of the curve.
        """
        self.model.train()
        first, start = self.tokens_seen, time.monotonic()
        with progress_bar() as progress:
            task = progress.add_task("train", total=self.params.max_steps, completed=self.step, note="")
            while not self.done:
                rate = self.take_step()
                if self.step % self.params.log_every == 0:
                    note = f"loss {float(self.losses[-1]):.3f}"
                    rate_now = (self.tokens_seen - first) / (time.monotonic() - start)
                    progress.update(task, note=f"{note}, {rate_now:,.0f} tokens/s")
                    log.info("step %d of %d, %s", self.step, self.params.max_steps, note)
                if self.step % self.params.eval_every == 0 or self.done:
                    self.add_row(rate)
                    after_row(self.rows[-1])
                progress.update(task, completed=self.place)
                if not self.done:
                    after_step()
        self._end()
        self.model.eval()

    def take_step(self) -> float:
        """Learn from one batch, or from `accumulate` of them; give the learning rate."""
        rate = self._set_rates()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        start = time.monotonic()
        if self.processes.count > 1:  # each drops out activations of its own, the same after a restart
            torch.manual_seed((self.params.seed + self.step * self.processes.count + self.processes.rank) % 2**63)
        batches = self.batches.draw_step(self.params.accumulate)
        loss = torch.stack([self._add_gradient(batch) for batch in batches]).mean()
        gradients = [weight.grad for weight in self.model.parameters() if weight.grad is not None]
        self.processes.average([loss] if self.params.shard else [*gradients, loss])  # sharded ones are averages
        length = whole(nn.utils.clip_grad_norm_(self.model.parameters(), self.params.clip_norm or torch.inf))
        if not (loss + length).isfinite():
            raise WorkError(
                f"at step {self.step + 1} the loss is {float(loss):g} and the gradient's norm {float(length):g}: the "
                f"weights were left as they were; try a smaller train.lr, or train.clip_norm 1.0"
            )
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.losses.append(loss)
        if self.params.max_seconds:
            self.seconds = self.processes.mean(self.seconds + time.monotonic() - start)  # all stop at the same step
        if self.average:
            self._update_average()
        return rate

    def add_row(self, rate: float) -> None:
        """Measure, and put a row on the curve; with averaged weights, those are what is measured."""
        train_loss = float(torch.stack(self.losses).mean())
        self.losses.clear()
        self.swap_average()
        val_loss = measure(self.model, [self.val]).loss
        if self.params.keep == "best" and val_loss < min((row.val_loss for row in self.rows), default=torch.inf):
            self.best = [weight.detach().clone() for weight in self.model.parameters()]
        self.swap_average()
        self.rows.append(Row(self.step, self.tokens_seen, train_loss, val_loss, rate))

    @torch.no_grad()
    def swap_average(self) -> None:
        """Exchange the weights and their average; nothing where no average is kept."""
        for weight, average in zip(self.model.parameters(), self.average, strict=False):
            kept = weight.clone()
            weight.copy_(average)
            average.copy_(kept)

    def table(self) -> list[tuple[int | float, ...]]:
        """Give the curve's rows, in the order of COLUMNS."""
        return [astuple(row) for row in self.rows]

    @torch.no_grad()
    def _end(self) -> None:
        self.swap_average()
        for weight, best in zip(self.model.parameters(), self.best, strict=False):
            weight.copy_(best)

    def _add_gradient(self, batch: Batch) -> Tensor:
        inputs = (batch.inputs,) if batch.log_prior is None else (batch.inputs, batch.log_prior)
        logits = self.compiled(*inputs)
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
        shares = self.params.accumulate
        if self.params.batch_size % self.processes.count:  # whole batches are shared out, not their windows
            shares //= self.processes.count
        torch.autograd.backward(loss / shares)
        return loss.detach()

    def _set_rates(self) -> float:
        params = self.params
        factor = trapezoid(self.place, params.max_steps, params.warmup_steps, params.decay_fraction)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * factor
                if isinstance(optimizer, Muon):
                    group["momentum"] = momentum_rise(self.step)
        return params.lr * factor

    @torch.no_grad()
    def _update_average(self) -> None:
        # A young average leans on the present: a fixed weight would keep the first, random weights for long.
        weight = max(1 - self.params.average, 1 / (1 + self.step / 10))
        torch._foreach_lerp_(self.average, list(self.model.parameters()), weight)
