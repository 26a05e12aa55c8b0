"""train: a model, from tensors and parameters."""

import logging
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from torch import Tensor

from stages.core import files
from stages.core.device import ComputeParams, environment, prepare
from stages.core.errors import Interrupted, ModelError
from stages.core.files import write_tsv
from stages.core.logs import level, log, start_log
from stages.core.options import StageCommand, output_file_option, output_folder_option, params_option, tokens_option
from stages.core.params import read_section
from stages.generation.sampling import Choice
from stages.generation.streaming import generate
from stages.metrics.losses import measure, spread
from stages.models.base import LanguageModel, count_parameters
from stages.models.model_folder import Saved, load, save
from stages.models.params import ModelParams
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.registry import load_tokenizer
from stages.tokenizers.token_files import check_length, load_sources, load_tokens, on_device
from stages.train.checkpoint import StateFolder, code_version
from stages.train.distributed import Processes, launch
from stages.train.params import TrainParams
from stages.train.setup import set_up
from stages.train.sharding import gathered
from stages.train.signals import stopping
from stages.train.tracking import Make, Trackers, find
from stages.train.trainer import COLUMNS, Row, Trainer

SAMPLE_LENGTH = 100
# They change no bit of the model.
HARMLESS = {"checkpoint_every", "checkpoint_steps", "log_every", "sample_every", "track"}


@click.command(name="train", cls=StageCommand)
@params_option
@tokens_option
@output_folder_option("--model", "model_folder", "models", "The folder for the trained model.")
@output_file_option("--curve", "curve", "reports/train.tsv", "The file for the learning curve.")
def command(params_path: Path, tokens: Path, model_folder: Path, curve: Path) -> None:
    """Train the model that `model:` and `train:` in params.yaml describe.

    Example: folio train --tokens data/tokens --model models --curve reports/train.tsv
    """
    processes = Processes.of_environment()
    if not processes.first:
        level["now"] = logging.WARNING
    start_log("train")
    compute = read_section(params_path, "compute", ComputeParams)
    model_params = read_section(params_path, "model", ModelParams)
    params = read_section(params_path, "train", TrainParams)
    tokenizer = load_tokenizer(tokens / "tokenizer.json")
    train, val = load_tokens(tokens, tokenizer)
    check_length(train, val, model_params.block_size)
    # What is not installed is said before anything is counted.
    trackers: dict[str, Make] = {kind: find(kind) for kind in params.track} if processes.first else {}
    if params.processes > 1 and processes.count == 1:
        Processes(count=params.processes).check(params)
        launch(params.processes, "stages.train", given(params_path, tokens, model_folder, curve))
        return
    processes.check(params)
    device = prepare(compute)
    train, val = on_device(train, device), on_device(val, device)
    first = first_weights(load(Path(params.init_from)), tokenizer) if params.init_from else None
    with processes.connected(device):
        texts = train, val, load_sources(tokens)
        model, trainer = set_up(model_params, params, compute, len(tokenizer), *texts, processes, first)
        learned = f"{count_parameters(model)} parameters" if trainer else "no parameters: it counts"
        log.info("%s: %s, on %s", model_params.kind, learned, device)
        where = environment(compute, device, model.stream_dtype) | {"processes": processes.count}

        def keep(trained: dict[str, Any], rows: list[tuple[int | float, ...]]) -> None:
            weights = gathered(model.state_dict(), processes.first)
            if processes.first:
                write_tsv(curve, COLUMNS, rows)
                save(model_folder, model, tokenizer, trained | {"environment": where}, weights)

        if trainer:
            state = StateFolder(describe(model_params, params, tokens) | where | {"code": code_version(__file__)})
            held = state.held() if processes.first else nullcontext()  # until the model is saved
            with held, tracking(trackers, model_params, params) as tracked:
                run_resumably(trainer, state, tokenizer, tracked)
                keep({"steps": trainer.step, "tokens_seen": trainer.tokens_seen}, trainer.table())
        else:
            keep({"steps": 0, "tokens_seen": len(train)}, [count_row(model, train, val, params)])
    log.info("%s holds the model, %s its curve", model_folder, curve)
    log.info("next: folio evaluate, folio sample")


def describe(model: ModelParams, params: TrainParams, tokens: Path) -> dict[str, str | int | float | bool]:
    """Name what, beside the machine and the code, decides the bits of a training, for a state to be recognized by."""
    about = {f"model.{name}": value for name, value in model.model_dump().items()}
    about |= {f"train.{name}": value for name, value in params.model_dump(exclude=HARMLESS).items()}
    if params.init_from:
        about["init_from"] = files.sha256(Path(params.init_from) / "model.safetensors")
    return about | {f"tokens/{name}": files.sha256(tokens / name) for name in ("tokens.safetensors", "tokenizer.json")}


def given(params: Path, tokens: Path, model: Path, curve: Path) -> list[str]:
    """Give the command line that a process of several gets."""
    return ["--params", str(params), "--tokens", str(tokens), "--model", str(model), "--curve", str(curve)]


def first_weights(saved: Saved, tokenizer: Tokenizer) -> LanguageModel:
    """Give the finished model to begin with.

    Raises:
        ModelError: where its vocabulary is another.
    """
    given = saved.tokenizer
    if given.sum != tokenizer.sum:
        theirs, ours = ({each.shown(index) for index in range(len(each))} for each in (given, tokenizer))
        raise ModelError(
            f"train.init_from has another vocabulary (kind {given.kind}, {len(theirs)} {given.unit}s, "
            f"{len(theirs - ours)} of them not here; this text's is of kind {tokenizer.kind}, {len(ours - theirs)} of "
            f"its {tokenizer.unit}s not there); set tokenize.vocabulary to its tokenizer.json"
        )
    return saved.model


def say_sample(trainer: Trainer, tokenizer: Tokenizer) -> None:
    """Log what the model writes now; nothing of training changes by it."""
    start = trainer.batches.tokens[:1].long()[None]
    trainer.model.eval()
    ids = generate(trainer.model, start, SAMPLE_LENGTH, Choice(0.8), [trainer.params.seed])
    trainer.model.train()
    log.info("step %d writes: %r", trainer.step, tokenizer.decode(ids[0].cpu()))


@contextmanager
def tracking(kinds: Mapping[str, Make], model: ModelParams, params: TrainParams) -> Iterator[Trackers]:
    """Track a training with services of those kinds until it ends or stops."""
    sections = {"model": model.model_dump(), "train": params.model_dump()}
    trackers = Trackers(kinds, {f"{name}.{key}": it[key] for name, it in sections.items() for key in it})
    succeeded = False
    try:
        yield trackers
        succeeded = True
    finally:
        trackers.end(succeeded)


def run_resumably(trainer: Trainer, state: StateFolder, tokenizer: Tokenizer, trackers: Trackers) -> None:
    """Train, from the last state if there is one, saving it now and then and when a signal comes.

    Raises:
        Interrupted: after the state was saved.
        WorkError: where the loss is no number; the last state is kept.
    """
    params, processes = trainer.params, trainer.processes
    saved_at = time.monotonic()

    def after_step() -> None:
        nonlocal saved_at
        if params.sample_every and trainer.step % params.sample_every == 0 and processes.first:
            say_sample(trainer, tokenizer)
        by_steps, by_time = params.checkpoint_steps, params.checkpoint_every
        due = trainer.step % by_steps == 0 if by_steps else time.monotonic() - saved_at >= by_time
        due, stopped = processes.any_of_them(due, stop.signal is not None)  # all at the same step
        if due or stopped:
            state.save(trainer)
            saved_at = time.monotonic()
        if stopped:
            raise Interrupted(stop.signal or signal.SIGTERM)

    def after_row(row: Row) -> None:
        figures = asdict(row)
        trackers.row(figures.pop("step"), figures)

    with stopping(patient=processes.count > 1) as stop:
        if state.restore(trainer):
            log.info("resumed at step %d", trainer.step)
        for row in trainer.rows:  # those from before the stop
            after_row(row)
        trainer.run(after_step, after_row)


def count_row(model: LanguageModel, train: Tensor, val: Tensor, params: TrainParams) -> tuple[int | float, ...]:
    """Give the one row of the curve of a model that only counts: no step, the whole text seen."""
    losses = [
        measure(model, [spread(part, model.params.block_size, params.eval_windows)]).loss for part in (train, val)
    ]
    return (0, len(train), losses[0], losses[1], 0.0)
