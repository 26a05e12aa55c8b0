"""train: a model, from tensors and parameters."""

import time
from pathlib import Path

import click
import torch
from torch import Tensor, nn

from stages import files
from stages.command import StageCommand, file_option, model_option, params_option, tokens_option
from stages.devices import environment, prepare, training_dtype
from stages.logs import log, start_log
from stages.measuring.losses import measure, spread
from stages.measuring.tables import write_tsv
from stages.models.base import LanguageModel, build, count_parameters
from stages.models.store import save
from stages.params.base import read_section
from stages.params.compute import ComputeParams
from stages.params.model import ModelParams
from stages.params.train import TrainParams
from stages.text.tokenizer import CharTokenizer
from stages.text.tokens import check_length, load_tokens
from stages.training.batches import Batches
from stages.training.crossfit import CrossFitted
from stages.training.loop import COLUMNS, Trainer
from stages.training.optimizers import make_optimizers
from stages.training.signals import stopping
from stages.training.state import StateFolder, code_version

HARMLESS = {"checkpoint_every", "checkpoint_steps", "log_every"}  # they change no bit of what is written


@click.command(name="train", cls=StageCommand)
@params_option
@tokens_option
@model_option
@file_option("--curve", "curve", "reports/train.tsv", "The file for the learning curve.")
def command(params_path: Path, tokens: Path, model_folder: Path, curve: Path) -> None:
    """Train the model that `model:` and `train:` in params.yaml describe.

    Example: folio train --tokens data/tokens --model models --curve reports/train.tsv
    """
    start_log("train")
    compute = read_section(params_path, "compute", ComputeParams)
    model_params = read_section(params_path, "model", ModelParams)
    params = read_section(params_path, "train", TrainParams)
    tokenizer = CharTokenizer.load(tokens / "tokenizer.json")
    train, val = load_tokens(tokens, tokenizer)
    check_length(train, val, model_params.block_size)
    device = prepare(compute)
    torch.manual_seed(params.seed)
    model = build(model_params, len(tokenizer)).to(device)
    counted = model.fit(train.to(device))
    if count_parameters(model):
        model.stream_dtype = training_dtype(compute, device)
        log.info("%s: %d parameters on %s, %s", model_params.kind, count_parameters(model), device, model.stream_dtype)
        prior = CrossFitted(counted, len(tokenizer), model_params.folds, model_params.recent) if counted else None
        trainer = make_trainer(model, train.to(device), val.to(device), params, prior)
        about = describe(compute, model_params, params, tokens, device, model.stream_dtype)
        run_resumably(trainer, StateFolder(about))
        training = {"steps": trainer.step, "tokens_seen": trainer.tokens_seen}
        rows = trainer.table()
    else:
        training = {"steps": 0, "tokens_seen": len(train)}
        rows = [count_row(model, train.to(device), val.to(device), params)]
    write_tsv(curve, COLUMNS, rows)
    save(model_folder, model, tokenizer, training)
    log.info("%s holds the model, %s its curve; next: folio evaluate, folio sample", model_folder, curve)


def describe(
    compute: ComputeParams,
    model: ModelParams,
    params: TrainParams,
    tokens: Path,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, str | int | float | bool]:
    """Name everything that decides the bits of a training, for a state to be recognized by."""
    about = {f"model.{name}": value for name, value in model.model_dump().items()}
    about |= {f"train.{name}": value for name, value in params.model_dump(exclude=HARMLESS).items()}
    about |= {f"tokens/{name}": files.sha256(tokens / name) for name in ("tokens.safetensors", "tokenizer.json")}
    return about | environment(compute, device, dtype) | {"code": code_version()}


def run_resumably(trainer: Trainer, state: StateFolder) -> None:
    """Train, from the last state if there is one, saving it now and then and when a signal comes.

    Raises:
        Interrupted: after the state was saved.
        WorkError: where another process trains the same model, or the loss is no number; the last state is kept.
    """
    every, steps = trainer.params.checkpoint_every, trainer.params.checkpoint_steps
    saved_at = time.monotonic()

    def after_step() -> None:
        nonlocal saved_at
        due = trainer.step % steps == 0 if steps else time.monotonic() - saved_at >= every
        if due or stop.signal:
            state.save(trainer)
            saved_at = time.monotonic()
        stop.check()

    with state.held(), stopping() as stop:
        if state.restore(trainer):
            log.info("resumed at step %d", trainer.step)
        trainer.run(after_step)


def make_trainer(
    model: LanguageModel, train: Tensor, val: Tensor, params: TrainParams, prior: CrossFitted | None
) -> Trainer:
    """Put a trainer together; everything on the model's device."""
    block_size = model.params.block_size
    prior = prior.to(train.device) if prior else None
    batches = Batches(train, block_size, params.batch_size, params.seed, prior)
    optimizers = make_optimizers(model, params, model.stream_dtype)
    compiled: nn.Module = torch.compile(model) if pays_to_compile(params, train.device) else model  # type: ignore[assignment]
    return Trainer(model, batches, optimizers, spread(val, block_size, params.eval_windows), params, compiled)


def pays_to_compile(params: TrainParams, device: torch.device) -> bool:
    """Say whether to compile: `auto` does so on CUDA alone, since on a few CPU cores it costs half a minute."""
    return params.compile == "on" or (params.compile == "auto" and device.type == "cuda")


def count_row(model: LanguageModel, train: Tensor, val: Tensor, params: TrainParams) -> tuple[int | float, ...]:
    """Give the one row of the curve of a model that only counts: no step, the whole text seen."""
    losses = [
        measure(model, [spread(part, model.params.block_size, params.eval_windows)]).loss for part in (train, val)
    ]
    return (0, len(train), losses[0], losses[1], 0.0)


if __name__ == "__main__":
    command()
