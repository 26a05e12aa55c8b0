"""The evaluate stage: measure the trained model on the validation text, next to n-gram baselines."""

from functools import partial
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

from stages.core.compute_params import ComputeParams
from stages.core.device import prepare_device, tokens_to_device
from stages.core.errors import ModelError, ParameterError, TextError
from stages.core.files import write_json, write_tsv
from stages.core.logs import log, progress_bar, start_log, track_progress
from stages.core.options import FolioCommand, model_option, output_file_option, params_option, tokens_option
from stages.core.params import read_section
from stages.core.project import log_next_steps
from stages.evaluate.measurements import (
    MAX_LOSS,
    measure_adaptive_loss,
    measure_losses,
    measure_overlap,
    num_baseline_tokens,
    window_sizes,
)
from stages.evaluate.params import EvaluateParams
from stages.evaluate.predictions import PredictionCollector, assemble_predictions
from stages.losses.adaptive import countable_training_text
from stages.losses.window_losses import Calibration, LossReport, evaluate_loss
from stages.losses.windows import blockwise_windows, is_scored_in_blocks, subsample
from stages.metrics.memorization import LARGELY_COPIED
from stages.metrics.prediction_file import write_predictions
from stages.models.model_folder import TrainedModel, load_model
from stages.tokenizers.token_files import load_sources, load_tokens, subsample_training_text

SUBSAMPLE_PARTS = 16  # of the validation text
MAX_ATTENTION_TOKENS = 32

# The first ones in metrics.json, which `dvc metrics` shows in this order.
FIRST_METRICS = ("val_loss", "sliding_val_loss", "adaptive_val_loss", "val_bits_per_byte", "kneser_ney_val_loss")


@click.command(name="evaluate", cls=FolioCommand)
@params_option
@tokens_option
@model_option
@output_file_option("--metrics", "metrics_path", "reports/metrics.json", "The file for the metrics.")
@output_file_option(
    "--by-position",
    "by_position_path",
    "reports/loss_by_position.tsv",
    "The file for the loss at each position of a window.",
)
@output_file_option(
    "--calibration", "calibration_path", "reports/calibration.tsv", "The file for confidence and accuracy."
)
@output_file_option(
    "--predictions",
    "predictions_path",
    "reports/predictions.safetensors",
    "The file for the predictions and attention maps that the report shows.",
)
def command(
    params_path: Path,
    tokens_folder: Path,
    model_folder: Path,
    metrics_path: Path,
    by_position_path: Path,
    calibration_path: Path,
    predictions_path: Path,
) -> None:
    """Measure the model on the validation text, next to n-gram baselines; docs/metrics.md defines every metric.

    At most 20 million training tokens are counted, or 8 million if the vocabulary has more than 256 tokens; the
    baselines count no more than the model was trained on.

    Example: folio evaluate --model models --metrics reports/metrics.json
    """
    start_log("evaluate")
    compute = read_section(params_path, "compute", ComputeParams)
    params = read_section(params_path, "evaluate", EvaluateParams)
    trained = load_model(model_folder)
    train_ids, val_ids = load_tokens(tokens_folder, trained.tokenizer)
    attention_ids = encode_attention_prompt(params.attention_prompt, trained, val_ids, params_path)
    block_size = trained.model.params.block_size
    short_block_size, stride = window_sizes(params, block_size)
    device = prepare_device(compute)
    trained.model.to(device)
    sources = load_sources(tokens_folder)
    counted_ids, _ = subsample_training_text(train_ids, sources, num_baseline_tokens(trained, len(train_ids)))
    train, counted, val = (tokens_to_device(ids, device) for ids in (train_ids, counted_ids, val_ids))
    collector = PredictionCollector(min(params.prediction_tokens, len(val) - 1))
    beginning, val = val[: params.prediction_tokens + 1], subsample(val, params.max_tokens, SUBSAMPLE_PARTS)
    log.debug("evaluating on %d tokens", len(val))
    with progress_bar() as progress:
        passes = 4 if trained.model.ngram_model is None else 5  # over the validation text
        predicted_once = int(is_scored_in_blocks(len(val), block_size, stride).sum())  # for two losses
        task = progress.add_task("evaluate", total=passes * len(val) - predicted_once, note="tokens")
        track = partial(track_progress, callback=lambda batch: progress.advance(task, batch.num_scored))
        if len(val) < len(val_ids):  # the evaluated pieces are not the beginning, which the report shows
            windows = blockwise_windows(beginning, block_size, params.batch_size)
            evaluate_loss(trained.model, windows, collector)
        report, metrics = measure_losses(trained, train, counted, val, params, collector, track)
        if not metrics["val_loss"] < MAX_LOSS:
            raise ModelError(f"the loss of the model in {model_folder} is {metrics['val_loss']:g}; train it again")
        metrics |= measure_overlap(trained, train, val)
        attention_ids = attention_ids.to(device)
        predictions = assemble_predictions(collector, trained.model, attention_ids, short_block_size, stride)
        metrics["adaptive_val_loss"] = metrics["sliding_val_loss"]
        if trained.model.ngram_model is not None:
            text_ids = countable_training_text(trained.model, train_ids, sources, len(val))
            text, advance = tokens_to_device(text_ids, device), partial(progress.advance, task)
            metrics["adaptive_val_loss"] = measure_adaptive_loss(trained.model, text, val, advance)
    in_order = {name: metrics[name] for name in FIRST_METRICS} | metrics
    write_json(metrics_path, {name: round(value, 6) for name, value in in_order.items()})
    write_by_position(by_position_path, report)
    write_calibration(calibration_path, report.calibration)
    write_predictions(predictions_path, predictions, trained.tokenizer)
    log.info("%s: val_loss %.4f (bigram: %.4f)", metrics_path, report.loss, metrics["bigram_val_loss"])
    if metrics["val_loss"] > metrics["kneser_ney_val_loss"]:
        log.warning(
            "the model is worse than the n-gram baseline, whose loss is %.4f (kneser_ney_val_loss)%s",
            metrics["kneser_ney_val_loss"],
            "; the text may be too small for it" if trained.model.params.kind == "gpt" else "",
        )
    if metrics["val_loss"] > metrics["uniform_val_loss"]:
        log.warning("the model is worse than a uniform distribution, whose loss is %.4f", metrics["uniform_val_loss"])
    if metrics["val_copied_share"] > LARGELY_COPIED:
        log.warning(
            "%.0f %% of the validation text occurs in the training text (val_copied_share): the losses do not show how "
            "well the model predicts new text. If the text contains copies, remove them",
            100 * metrics["val_copied_share"],
        )
    log_next_steps("evaluate", metrics_path, "folio sample", "folio report", "folio compare HEAD workspace")


def encode_attention_prompt(
    prompt: str | None, trained: TrainedModel, val_ids: np.ndarray, params_path: Path
) -> Tensor:
    """Return the ids of the text whose attention is shown: the prompt, or the beginning of the validation text.

    Raises:
        ParameterError: if the prompt has characters outside the vocabulary.
    """
    try:
        ids = val_ids if prompt is None else trained.tokenizer.encode(prompt)
    except TextError as error:
        raise ParameterError(f"{params_path}: evaluate.attention_prompt is {prompt!r}: {error}") from None
    length = min(MAX_ATTENTION_TOKENS, trained.model.params.block_size)
    return torch.from_numpy(ids[:length].astype(np.int64))


def write_by_position(path: Path, report: LossReport) -> None:
    """Write the loss at each position of a window."""
    positions = range(1, len(report.num_scored) + 1)
    rows = zip(positions, report.loss_by_position.tolist(), report.num_scored.tolist(), strict=True)
    write_tsv(path, ("position", "val_loss", "tokens"), (row for row in rows if row[2]))


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write confidence and accuracy in every bin that is not empty."""
    bins = calibration.confidence.tolist(), calibration.accuracy.tolist(), calibration.counts.long().tolist()
    write_tsv(path, ("confidence", "accuracy", "tokens"), (row for row in zip(*bins, strict=True) if row[2]))
