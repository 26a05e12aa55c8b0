"""The train stage: train the model that params.yaml describes."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from stages.core.compute_params import ComputeParams
from stages.core.device import available_cores, describe_environment, prepare_device, tokens_to_device
from stages.core.errors import ModelError, ParameterError
from stages.core.files import write_tsv
from stages.core.logs import log, start_log
from stages.core.options import FolioCommand, output_file_option, output_folder_option, params_option, tokens_option
from stages.core.params import check_section, read_budget, read_explicit, read_section
from stages.core.project import log_next_steps, missing_file_hint, started_by_dvc
from stages.core.records import TrainingRecord
from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import evenly_spaced_windows
from stages.models.base import LanguageModel, build_model, count_parameters
from stages.models.model_folder import MANIFEST, TrainedModel, load_model, save_model
from stages.models.params import ModelParams
from stages.models.reference_generator import generate_reference
from stages.tokenizers.base import TokenIds, Tokenizer
from stages.tokenizers.prompt_check import check_prompts
from stages.tokenizers.registry import load_tokenizer
from stages.tokenizers.token_files import (
    TokenSource,
    check_length,
    load_sources,
    load_tokens,
    subsample_training_text,
)
from stages.train.auto import Settings, TextSize, choose_settings, describe_settings
from stages.train.checkpoint import TrainingCheckpoint, training_fingerprint
from stages.train.distributed import World, launch_processes
from stages.train.params import RuntimeParams, TrainParams
from stages.train.setup import check_same_architecture, check_window_size, held_out_start, prepare_training
from stages.train.signals import catch_stop_signals, end_with_parent
from stages.train.tracking import TrackerFactory, Trackers, load_tracker, track
from stages.train.trainer import CURVE_COLUMNS, CurvePoint, Trainer

EXPERT_KEYS = ("prior", "cache_lm", "context_experts")
SAMPLE_LENGTH, SAMPLE_TEMPERATURE = 100, 0.8


@click.command(name="train", cls=FolioCommand)
@params_option
@tokens_option
@output_folder_option("--model", "model_folder", "models", "The folder for the trained model.")
@output_file_option("--curve", "curve_path", "reports/train.tsv", "The file for the learning curve.")
@click.option(
    "--dry-run", is_flag=True, help="Print the settings, and for gpt the expected time and memory; do not train."
)
def command(params_path: Path, tokens_folder: Path, model_folder: Path, curve_path: Path, dry_run: bool) -> None:
    """Train the model that `model:` and `train:` in params.yaml describe.

    Settings that are `auto` are chosen from the text and `budget`. A run that was stopped resumes from its last
    checkpoint.

    Example: folio train --tokens data/tokens --model models --curve reports/train.tsv
    """
    start_log("train")
    world = World.from_environment()
    if not world.is_first:
        log.setLevel(logging.WARNING)
    if world.size > 1 or started_by_dvc():
        end_with_parent()
    job = read_job(params_path, tokens_folder, world)
    params = job.train_params
    World(size=max(world.size, params.processes)).check_batch(params)
    factories: dict[str, TrackerFactory] = (
        {name: load_tracker(name) for name in job.runtime.trackers} if world.is_first else {}
    )
    device = prepare_device(job.compute)
    check_processes(params.processes, device)
    if dry_run:
        return
    if params.processes > 1 and world.size == 1:
        options = {"params": params_path, "tokens": tokens_folder, "model": model_folder, "curve": curve_path}
        arguments = [word for name, path in options.items() for word in (f"--{name}", str(path))]
        arguments += {logging.WARNING: ["--quiet"], logging.DEBUG: ["--verbose"]}.get(log.level, [])
        launch_processes(params.processes, "stages.train", arguments)
        return
    with world.connected(device):
        train_and_save(job, world, device, factories, tokens_folder, model_folder, curve_path)
    log.info("wrote the model to %s and the learning curve to %s", model_folder, curve_path)
    if world.is_first:
        log_next_steps("train", model_folder, "folio evaluate", "folio sample")


def check_processes(count: int, device: torch.device) -> None:
    """Check that the device can be used by `count` processes of this machine.

    Raises:
        ParameterError: if there are fewer GPUs than processes.
    """
    if device.type == "cpu" and count > available_cores():
        log.warning("train.processes is %d, but there are only %d CPU cores", count, available_cores())
    gpus = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device.type, count)
    if count > gpus:
        raise ParameterError(
            f"train.processes is {count}, but the number of GPUs is {gpus}; set it to {gpus} or less, or set "
            "compute.device to cpu"
        )


def train_and_save(
    job: "TrainingJob",
    world: World,
    device: torch.device,
    factories: Mapping[str, TrackerFactory],
    tokens_folder: Path,
    model_folder: Path,
    curve_path: Path,
) -> None:
    """Train a model; the first process writes the model and the learning curve.

    Args:
        job: what to train.
        world: the processes that train together, connected.
        device: device of this process.
        factories: experiment trackers, by name.
        tokens_folder: the folder of `job`'s tokens.
        model_folder: the folder for the model.
        curve_path: the file for the learning curve.
    """
    train, val = tokens_to_device(job.train_ids, device), tokens_to_device(job.val_ids, device)
    model, trainer = prepare_training(
        job.model_params,
        job.train_params,
        job.runtime,
        job.compute,
        len(job.tokenizer),
        train,
        val,
        token_classes=torch.from_numpy(job.tokenizer.token_classes()),
        sources=job.sources,
        world=world,
        initial_model=job.initial_model,
    )
    environment = describe_environment(job.compute, device, model.compute_dtype) | {"processes": world.size}

    def save(steps: int, tokens_seen: int) -> None:
        record = TrainingRecord(
            environment=dict(environment),
            params=job.train_params.model_dump(),
            auto=job.auto_keys,
            budget=job.budget,
            steps=steps,
            tokens_seen=tokens_seen,
        )
        save_model(model_folder, model, job.tokenizer, record)

    if trainer is None:
        log.info("%s: no trainable parameters, on %s", job.model_params.kind, device)
        if world.is_first:
            write_tsv(curve_path, CURVE_COLUMNS, [counting_curve_row(model, train, val, job.train_params)])
            save(0, len(train))
        return
    log.info("%s: %d parameters, on %s", job.model_params.kind, count_parameters(model), device)
    fingerprint = training_fingerprint(job.model_params, job.train_params, tokens_folder, environment)
    checkpoint = TrainingCheckpoint(fingerprint, job.runtime)
    with (
        checkpoint.locked() if world.is_first else nullcontext(),
        track(factories, flat_params(job)) as trackers,
    ):
        world.wait_for_all()  # until the first process has the lock, and has deleted the states of finished runs
        run_training(trainer, checkpoint, job.tokenizer, trackers)
        if world.is_first:
            write_tsv(curve_path, *trainer.curve_table())
            save(trainer.step, trainer.tokens_seen)
            checkpoint.mark_finished(model_folder)


@dataclass(frozen=True)
class TrainingJob:
    """What a training run reads.

    Attributes:
        compute, runtime: sections of params.yaml.
        model_params, train_params: sections `model` and `train`, with every setting chosen.
        auto_keys: the settings that were chosen, as "section.key".
        budget: minutes of training that they were chosen for.
        tokenizer: tokenizer of the tokens.
        train_ids: training tokens, (N,).
        val_ids: validation tokens, (M,).
        sources: sources of the training tokens.
        initial_model: the model of `train.init_from`.
    """

    compute: ComputeParams
    runtime: RuntimeParams
    model_params: ModelParams
    train_params: TrainParams
    auto_keys: list[str]
    budget: float
    tokenizer: Tokenizer
    train_ids: TokenIds
    val_ids: TokenIds
    sources: Sequence[TokenSource]
    initial_model: LanguageModel | None


def read_job(params_path: Path, tokens_folder: Path, world: World) -> TrainingJob:
    """Read params.yaml and the tokens, choose the settings that are `auto`, and log them."""
    settings = Settings(
        read_explicit(params_path, "model", ModelParams), read_explicit(params_path, "train", TrainParams)
    )
    compute = read_section(params_path, "compute", ComputeParams)
    runtime = read_section(params_path, "runtime", RuntimeParams)
    budget = read_budget(params_path)
    tokenizer = load_tokenizer(tokens_folder / "tokenizer.json")
    check_prompts(params_path, tokenizer)
    train_ids, val_ids = load_tokens(tokens_folder, tokenizer)
    init_from = settings.train["init_from"]
    initial_model = load_initial_model(Path(init_from), tokenizer) if init_from else None
    if initial_model:
        # Other models than `gpt` learn an embedding of each position.
        block_size_key = () if initial_model.params.kind == "gpt" else ("block_size",)
        for name in ("n_layer", "n_head", "n_embd", "sliding_window", *EXPERT_KEYS, *block_size_key):
            settings.choose(f"model.{name}", getattr(initial_model.params, name), "as in train.init_from")
    text = TextSize(len(train_ids), len(val_ids), len(tokenizer))
    processes = max(world.size, settings.train["processes"])
    choose_settings(settings, text, budget, processes)
    model_params = check_section(settings.model, ModelParams, f"{params_path}: model")
    params = check_section(settings.train, TrainParams, f"{params_path}: train")
    check_window_size(model_params, params)
    for line in describe_settings(settings, text, budget, processes):
        log.info("%s", line)
    train_ids, sources = subsample_training_text(train_ids, load_sources(tokens_folder), params.max_tokens)
    is_cut = len(train_ids) < text.train_tokens
    longer = f"increase train.max_tokens, which is {params.max_tokens}" if is_cut else "use a longer text"
    check_length(train_ids, val_ids, model_params.block_size, longer)
    if params.held_out_fraction:
        if len(sources) > 1:
            raise ParameterError(
                f"train.held_out_fraction is {params.held_out_fraction}, but the text has {len(sources)} sources, and "
                "only the last one would be held out; set it to 0, or define one source in download.sources"
            )
        held_out_start(len(train_ids), model_params.block_size, params.held_out_fraction)
    if initial_model:
        check_same_architecture(initial_model, build_model(model_params, len(tokenizer)))
    auto_keys = [setting.key for setting in settings.chosen]
    return TrainingJob(
        compute, runtime, model_params, params, auto_keys, budget, tokenizer, train_ids, val_ids, sources, initial_model
    )


def run_training(trainer: Trainer, checkpoint: TrainingCheckpoint, tokenizer: Tokenizer, trackers: Trackers) -> None:
    """Train from the last checkpoint, if there is one, to the end; save checkpoints on the way.

    Raises:
        Interrupted: after a signal, with a checkpoint saved.
        WorkError: if the loss becomes infinite or NaN; the last checkpoint is kept.
    """

    def log_point(point: CurvePoint) -> None:
        values = {name: value for name, value in asdict(point).items() if value is not None}
        trackers.log_point(values.pop("step"), values)

    with catch_stop_signals(ignore_repeats=trainer.world.size > 1) as stop:

        def after_step() -> None:
            sample_every = trainer.runtime.sample_every
            if sample_every and trainer.step % sample_every == 0 and trainer.world.is_first:
                log_sample(trainer, tokenizer)
            checkpoint.save_if_due(trainer, stop.signal)

        if checkpoint.restore(trainer):
            log.info("resumed at step %d", trainer.step)
        for point in trainer.curve:  # those from before the restart
            log_point(point)
        trainer.train(after_step, log_point, before_end=lambda: checkpoint.save_last_step(trainer))


def load_initial_model(folder: Path, tokenizer: Tokenizer) -> LanguageModel:
    """Return the trained model that training starts from.

    Raises:
        ModelError: if its vocabulary is another one.
    """
    if not (folder / MANIFEST).exists():
        raise ModelError(
            f"train.init_from is {folder}, which has no model; copy one to a folder, for example with `cp -r models "
            f"base`, and name that one, because DVC deletes models/ before training{missing_file_hint()}"
        )
    trained: TrainedModel = load_model(folder)
    other = trained.tokenizer
    if other.fingerprint != tokenizer.fingerprint:
        theirs, ours = ({each.display(index) for index in range(len(each))} for each in (other, tokenizer))
        raise ModelError(
            f"train.init_from is a model with another vocabulary ({other.kind}, {len(theirs)} {other.unit}s) than this "
            f"text ({tokenizer.kind}, {len(ours)} {tokenizer.unit}s): {len(theirs - ours)} are only in the model, "
            f"{len(ours - theirs)} only in the text. Set tokenize.tokenizer to {folder}/tokenizer.json"
        )
    return trained.model


def log_sample(trainer: Trainer, tokenizer: Tokenizer) -> None:
    """Log a short sample; training is not affected."""
    prompt = trainer.sampler.tokens[:1].long()[None]
    trainer.model.eval()
    ids = generate_reference(trainer.model, prompt, SAMPLE_LENGTH, SAMPLE_TEMPERATURE, trainer.params.seed)
    trainer.model.train()
    log.info("sample at step %d: %r", trainer.step, tokenizer.decode(ids[0].cpu()))


def flat_params(job: TrainingJob) -> Mapping[str, object]:
    """Return the parameters of a run by "section.key", and the budget."""
    sections: dict[str, dict[str, Any]] = {
        "model": job.model_params.model_dump(),
        "train": job.train_params.model_dump(),
    }
    of_sections = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}
    return {"budget": job.budget} | of_sections


def counting_curve_row(
    model: LanguageModel, train: Tensor, val: Tensor, params: TrainParams
) -> tuple[int | float, ...]:
    """Return the only row of the curve of a model without trainable weights: step 0, all tokens seen."""
    block_size = model.params.block_size
    train_loss, val_loss = (
        evaluate_loss(model, [evenly_spaced_windows(tokens, block_size, params.eval_windows)]).loss
        for tokens in (train, val)
    )
    return (0, len(train), train_loss, val_loss, 0.0)
