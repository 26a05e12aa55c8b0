"""The training loop."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import astuple, dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name
from torch.optim import Optimizer

from stages.core.errors import WorkError
from stages.core.logs import log, progress_bar
from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import Windows
from stages.models.base import LanguageModel
from stages.train.batches import BatchSampler
from stages.train.distributed import World
from stages.train.muon import Muon
from stages.train.params import RuntimeParams, TrainParams
from stages.train.schedule import lr_factor, muon_momentum


@dataclass(frozen=True)
class CurvePoint:
    """A point of the learning curve, one row of reports/train.tsv.

    Attributes:
        step: optimizer steps so far.
        tokens: tokens predicted so far.
        train_loss: mean training loss since the previous point.
        val_loss: loss on `train.eval_windows` windows of the validation text.
        lr: `train.lr` times the factor of the schedule, which also scales lr_embedding and lr_head.
        held_out_loss: loss on windows of the held-out part of the training text, if there is one.
    """

    step: int
    tokens: int
    train_loss: float
    val_loss: float
    lr: float
    held_out_loss: float | None = None

    @property
    def selection_loss(self) -> float:
        """Return the loss by which the best point is chosen."""
        return self.val_loss if self.held_out_loss is None else self.held_out_loss


DIVERGENCE_FACTOR = 2.0  # the initial loss of every model here is less than this times that of a uniform prediction
MIN_UNIFORM_LOSS = 2.0  # nats; a smaller one, of a tiny vocabulary, counts as this, because a new `bigram` is random
CURVE_COLUMNS = tuple(field.name for field in fields(CurvePoint) if field.name != "held_out_loss")


def _do_nothing(*_: object) -> None:
    """Ignore an event of the training."""


class Trainer:
    """The training state of a model: its optimizers, batches, step and learning curve.

    Args:
        model: the model, on the device to train on.
        sampler: sampler of training batches.
        optimizers: optimizers of the weights of the model.
        val_windows: windows for the validation loss of the curve.
        held_out_windows: windows of the held-out part of the training text, if there is one.
        params: how to train.
        runtime: how often to log.
        forward_model: what computes the loss: the model itself, or compiled or wrapped for several processes.
        world: the processes that train the model together.
    """

    def __init__(
        self,
        model: LanguageModel,
        sampler: BatchSampler,
        optimizers: list[Optimizer],
        *,
        val_windows: Windows,
        held_out_windows: Windows | None = None,
        params: TrainParams,
        runtime: RuntimeParams,
        forward_model: nn.Module | None = None,
        world: World | None = None,
    ) -> None:
        self.model, self.sampler, self.optimizers = model, sampler, optimizers
        self.val_windows, self.held_out_windows = val_windows, held_out_windows
        self.params, self.runtime = params, runtime
        self.forward_model = model if forward_model is None else forward_model
        self.world = world or World()
        self.ema = [weight.detach().clone() for weight in model.parameters()] if params.ema_decay else []
        self.best_weights: list[Tensor] = []  # of the point with the lowest selection_loss, if train.keep is `best`
        self.step = 0
        # Time of all steps, also before a restart, but not of the first one after each start, which may include
        # compilation. Only measured with train.max_seconds.
        self.seconds = 0.0
        self._is_first_step = True
        self.losses: list[Tensor] = []  # since the last point; kept on the device to avoid waiting for it
        self.first_nonfinite_step = torch.zeros((), dtype=torch.int64, device=val_windows.inputs.device)
        self.curve: list[CurvePoint] = []

    @property
    def tokens_seen(self) -> int:
        """Return the number of tokens predicted in training so far."""
        return self.step * self.params.grad_accum_steps * self.sampler.batch_size * self.sampler.window_size

    @property
    def progress(self) -> float:
        """Return the progress in steps: the larger one of the step and `max_steps` times the used share of the time."""
        time_share = self.seconds / self.params.max_seconds if self.params.max_seconds else 0.0
        return max(self.step, time_share * self.params.max_steps)

    @property
    def is_done(self) -> bool:
        """Return whether the steps, the time or the patience are used up."""
        if self.progress >= self.params.max_steps:
            return True
        losses = [point.selection_loss for point in self.curve]
        if not self.params.patience or not losses:
            return False
        points_since_best = len(losses) - 1 - losses.index(min(losses))
        return points_since_best >= self.params.patience

    def train(
        self,
        after_step: Callable[[], None] = _do_nothing,
        after_point: Callable[[CurvePoint], None] = _do_nothing,
        before_end: Callable[[], None] = _do_nothing,
    ) -> None:
        """Take all remaining steps; at the end the model has the averaged or the best weights, if requested.

        Args:
            after_step: called after every step but the last, when a checkpoint can be saved.
            after_point: called with every new point of the curve.
            before_end: called after the last step, before the model gets the averaged or the best weights.

        Raises:
            WorkError: if the loss becomes infinite or NaN, or ends far above that of a uniform distribution.
        """
        self.model.train()
        first_progress, first_tokens, start = self.progress, self.tokens_seen, time.monotonic()
        with progress_bar() as progress:
            task = progress.add_task("train", total=self.params.max_steps, completed=int(self.progress), note="")
            while not self.is_done:
                lr = self.take_step()
                if self.step % self.runtime.log_every == 0:
                    note = f"loss {self.check_finite():.3f}"
                    elapsed = time.monotonic() - start
                    speed = (self.tokens_seen - first_tokens) / elapsed
                    progress.update(task, note=f"{note}, {speed:,.0f} tokens/s")
                    seconds_per_step = elapsed / (self.progress - first_progress)
                    left = max(0.0, seconds_per_step * (self.params.max_steps - self.progress))
                    log.info("step %d of %d, %s, %.0f s left", self.step, self.params.max_steps, note, left)
                if self.step % self.params.eval_every == 0 or self.is_done:
                    self.check_finite()
                    self.add_point(lr)
                    after_point(self.curve[-1])
                progress.update(task, completed=self.progress)
                if not self.is_done:
                    after_step()
        if self.progress < self.params.max_steps:
            log.info(
                "stopped at step %d: the last %d points are no better (train.patience)", self.step, self.params.patience
            )
        self.check_not_diverged()
        before_end()
        self._finish()
        self.model.eval()

    def take_step(self) -> float:
        """Take one optimizer step and return `train.lr` times the factor of the schedule."""
        lr = self._set_learning_rates()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        start = time.monotonic()
        if self.world.size > 1:  # dropout differs between processes, but not after a restart
            torch.manual_seed((self.params.seed + self.step * self.world.size + self.world.rank) % 2**63)
        batches = list(self.sampler.sample_step(self.params.grad_accum_steps))
        losses = [
            self._backward(batch, len(batches), is_last=index == len(batches) - 1)
            for index, batch in enumerate(batches)
        ]
        loss = self.world.mean_tensor(torch.stack(losses).mean())
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.params.grad_clip or torch.inf)
        self._note_nonfinite(loss + grad_norm)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self.losses.append(loss)
        if self.params.max_seconds and loss.device.type != "cpu":
            torch.get_device_module(loss.device).synchronize()
        if self.params.max_seconds:  # averaged, so that all processes stop at the same step
            elapsed = 0.0 if self._is_first_step else time.monotonic() - start
            self.seconds = self.world.mean_number(self.seconds + elapsed)
        self._is_first_step = False
        self._update_ema()
        return lr

    def check_finite(self) -> float:
        """Wait for the device, check that every loss and gradient so far is finite, and return the last loss, or NaN.

        Raises:
            WorkError: if one is infinite or NaN.
        """
        first_nonfinite_step = self.first_nonfinite_step.float()
        loss = self.losses[-1] if self.losses else torch.full_like(first_nonfinite_step, torch.nan)
        step, last_loss = map(float, torch.stack((first_nonfinite_step, loss)).cpu())  # together, to wait only once
        if step:
            raise WorkError(
                f"at step {step:.0f} the loss or its gradient is infinite or NaN; no checkpoint was saved after it. "
                "Try a smaller train.lr, train.lr_embedding or train.lr_head, or train.grad_clip: 1.0"
            )
        return last_loss

    def add_point(self, lr: float) -> None:
        """Evaluate the model, with its averaged weights if there are any, and add a point to the curve."""
        train_loss = float(torch.stack(self.losses).mean())
        self.losses.clear()
        with self._ema_weights():
            val_loss = evaluate_loss(self.model, [self.val_windows]).loss
            held_out_loss = evaluate_loss(self.model, [self.held_out_windows]).loss if self.held_out_windows else None
            point = CurvePoint(self.step, self.tokens_seen, train_loss, val_loss, lr, held_out_loss)
            lowest = min((earlier.selection_loss for earlier in self.curve), default=torch.inf)
            if self.params.keep == "best" and point.selection_loss < lowest:
                self.best_weights = [weight.detach().clone() for weight in self.model.parameters()]
        self.curve.append(point)

    def check_not_diverged(self) -> None:
        """Check that training has not diverged, unless the best weights are kept instead of the last.

        The last training loss must be less than DIVERGENCE_FACTOR * max(MIN_UNIFORM_LOSS, log V), where log V is the
        loss of a uniform prediction, and the last validation loss must be finite.

        Raises:
            WorkError: if training has diverged.
        """
        point = self.curve[-1]
        if self.params.keep == "best":
            return
        limit = DIVERGENCE_FACTOR * max(MIN_UNIFORM_LOSS, math.log(self.model.vocab_size))
        if not (point.train_loss < limit and math.isfinite(point.val_loss)):
            raise WorkError(
                f"training has diverged: at the last step, {self.step}, the training loss is {point.train_loss:.4g} "
                f"and the validation loss {point.val_loss:.4g}. Try a smaller train.lr, train.lr_embedding or "
                "train.lr_head, or train.grad_clip: 1.0"
            )

    def curve_table(self) -> tuple[tuple[str, ...], list[tuple[int | float, ...]]]:
        """Return the columns and the rows of the curve; `held_out_loss` is one of them if a part is held out."""
        columns = (*CURVE_COLUMNS, "held_out_loss") if self.held_out_windows else CURVE_COLUMNS
        return columns, [astuple(point)[: len(columns)] for point in self.curve]

    def _backward(self, batch: Windows, batch_count: int, is_last: bool) -> Tensor:
        """Add the gradient of a batch, weighted by 1 / batch_count, and return its loss."""
        # The processes exchange gradients once per step.
        synchronization = nullcontext() if is_last or self.world.size == 1 else self.forward_model.no_sync()  # type: ignore[operator]
        with synchronization:
            logits = self.forward_model(batch.inputs, train_positions=batch.train_positions)
            loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
            torch.autograd.backward(loss / batch_count)
        return loss.detach()

    def _set_learning_rates(self) -> float:
        params = self.params
        factor = lr_factor(self.progress, params.max_steps, params.warmup_steps, params.lr_decay_fraction)
        for optimizer in self.optimizers:
            for param_group in optimizer.param_groups:
                param_group["lr"] = param_group["base_lr"] * factor
                if isinstance(optimizer, Muon):
                    param_group["momentum"] = muon_momentum(self.step)
        return params.lr * factor

    def _note_nonfinite(self, value: Tensor) -> None:
        """Remember the first step with an infinite or NaN value; on the CPU, stop before the weights change."""
        is_first = ~value.isfinite() & (self.first_nonfinite_step == 0)
        self.first_nonfinite_step = torch.where(is_first, self.step + 1, self.first_nonfinite_step)
        if value.device.type == "cpu":
            self.check_finite()

    @torch.no_grad()
    def _update_ema(self) -> None:
        """Move the exponential moving average of the weights, if there is one, towards the weights."""
        if self.ema:
            # The decay increases from step to step, so that the random initialization soon has no weight.
            rate = max(1 - self.params.ema_decay, 1 / (1 + self.step / 10))
            torch._foreach_lerp_(self.ema, list(self.model.parameters()), rate)

    @contextmanager
    def _ema_weights(self) -> Iterator[None]:
        self._swap_ema_weights()
        try:
            yield
        finally:
            self._swap_ema_weights()

    @torch.no_grad()
    def _swap_ema_weights(self) -> None:
        """Exchange the weights and their average, if there is one."""
        if not self.ema:
            return
        for weight, average in zip(self.model.parameters(), self.ema, strict=True):
            copy = weight.clone()
            weight.copy_(average)
            average.copy_(copy)

    @torch.no_grad()
    def _finish(self) -> None:
        if self.best_weights:
            best_point = min(self.curve, key=lambda point: point.selection_loss)
            log.info("kept the weights of step %d, the best point (train.keep)", best_point.step)
        self._swap_ema_weights()
        for weight, best in zip(self.model.parameters(), self.best_weights, strict=False):
            weight.copy_(best)
