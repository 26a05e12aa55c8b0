"""train: a model, from tensors and parameters."""

import time
from pathlib import Path
from typing import Any

import click
from torch import Tensor

from stages import files
from stages.command import StageCommand, output_file_option, output_folder_option, params_option, tokens_option
from stages.devices import environment, prepare
from stages.logs import log, start_log
from stages.measuring.losses import measure, spread
from stages.measuring.tables import write_tsv
from stages.models.base import LanguageModel, count_parameters
from stages.models.store import save
from stages.params.base import read_section
from stages.params.compute import ComputeParams
from stages.params.model import ModelParams
from stages.params.train import TrainParams
from stages.text.tokenizer import CharTokenizer
from stages.text.tokens import check_length, load_tokens
from stages.training.loop import COLUMNS, Trainer
from stages.training.setup import set_up
from stages.training.signals import stopping
from stages.training.state import StateFolder, code_version

HARMLESS = {"checkpoint_every", "checkpoint_steps", "log_every"}  # they change no bit of what is written


@click.command(name="train", cls=StageCommand)
@params_option
@tokens_option
@output_folder_option("--model", "model_folder", "models", "The folder for the trained model.")
@output_file_option("--curve", "curve", "reports/train.tsv", "The file for the learning curve.")
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
    train, val = train.to(device), val.to(device)
    model, trainer = set_up(model_params, params, compute, len(tokenizer), train, val)
    learned = f"{count_parameters(model)} parameters" if trainer else "no parameters: it counts"
    log.info("%s: %s, on %s", model_params.kind, learned, device)
    where = environment(compute, device, model.stream_dtype)

    def keep(trained: dict[str, Any], rows: list[tuple[int | float, ...]]) -> None:
        write_tsv(curve, COLUMNS, rows)
        save(model_folder, model, tokenizer, trained | {"environment": where})

    if trainer:
        state = StateFolder(describe(model_params, params, tokens) | where | {"code": code_version(__file__)})
        with state.held():  # until the model is saved: only then is the state of no more use
            run_resumably(trainer, state)
            keep({"steps": trainer.step, "tokens_seen": trainer.tokens_seen}, trainer.table())
    else:
        keep({"steps": 0, "tokens_seen": len(train)}, [count_row(model, train, val, params)])
    log.info("%s holds the model, %s its curve; next: folio evaluate, folio sample", model_folder, curve)


def describe(model: ModelParams, params: TrainParams, tokens: Path) -> dict[str, str | int | float | bool]:
    """Name what, beside the machine and the code, decides the bits of a training, for a state to be recognized by."""
    about = {f"model.{name}": value for name, value in model.model_dump().items()}
    about |= {f"train.{name}": value for name, value in params.model_dump(exclude=HARMLESS).items()}
    return about | {f"tokens/{name}": files.sha256(tokens / name) for name in ("tokens.safetensors", "tokenizer.json")}


def run_resumably(trainer: Trainer, state: StateFolder) -> None:
    """Train, from the last state if there is one, saving it now and then and when a signal comes.

    Raises:
        Interrupted: after the state was saved.
        WorkError: where the loss is no number; the last state is kept.
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

    with stopping() as stop:
        if state.restore(trainer):
            log.info("resumed at step %d", trainer.step)
        trainer.run(after_step)


def count_row(model: LanguageModel, train: Tensor, val: Tensor, params: TrainParams) -> tuple[int | float, ...]:
    """Give the one row of the curve of a model that only counts: no step, the whole text seen."""
    losses = [
        measure(model, [spread(part, model.params.block_size, params.eval_windows)]).loss for part in (train, val)
    ]
    return (0, len(train), losses[0], losses[1], 0.0)


if __name__ == "__main__":
    command()
