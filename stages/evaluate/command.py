"""The evaluate stage: measure the trained model on the validation text, next to n-gram baselines."""

import math
from collections.abc import Callable, Iterable
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
from stages.core.options import StageCommand, model_option, output_file_option, params_option, tokens_option
from stages.core.params import read_section
from stages.core.project import finish_stage
from stages.core.records import Metrics
from stages.evaluate.params import EvaluateParams
from stages.evaluate.predictions import PredictionCollector, assemble_predictions
from stages.generation.params import SamplingParams
from stages.generation.streaming import generate_tokens
from stages.losses.adaptive import adaptive_loss
from stages.losses.losses import MAX_LOGITS, Calibration, LossReport, evaluate_loss, token_losses
from stages.losses.windows import (
    Windows,
    blockwise_windows,
    evenly_spaced_windows,
    predicted_in_blocks,
    sliding_windows,
    subsample,
)
from stages.metrics.memorization import LARGELY_COPIED, TrainingText, verbatim_overlap
from stages.metrics.ngram_baselines import bigram_loss, uniform_loss, unigram_loss
from stages.metrics.prediction_file import write_predictions
from stages.models.base import LanguageModel, build_model, count_parameters
from stages.models.model_folder import TrainedModel, load_model
from stages.models.ngram.ram_check import SMALL_VOCAB_SIZE
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.token_files import load_tokens

# Training tokens that the baselines count, with a small and a large vocabulary: about 2 GB at order 7.
MAX_BASELINE_TOKENS, MAX_BASELINE_TOKENS_LARGE_VOCAB = 20_000_000, 8_000_000
TRAIN_LOSS_TOKENS = 1 << 16  # training tokens that train_loss is measured on
SUBSAMPLE_PARTS, SUBSAMPLE_PIECES = 16, 64  # of the validation text, of the training text
MIN_PIECE, MAX_PIECE = 32, 512  # validation tokens, after which adaptive_val_loss counts n-grams
OVERLAP_SAMPLES, OVERLAP_LENGTH = 32, 256
MAX_ATTENTION_TOKENS = 32

# The first ones in metrics.json, which `dvc metrics` shows in this order.
FIRST_METRICS = ("val_loss", "sliding_val_loss", "adaptive_val_loss", "val_bits_per_byte", "kneser_ney_val_loss")

Progress = Callable[[Iterable[Windows]], Iterable[Windows]]
MAX_LOSS = 700.0  # nats; no model that has learned anything is near, and the perplexity of more is no number


@click.command(name="evaluate", cls=StageCommand)
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
    """Measure the model on the validation text, in windows of its block size, next to n-gram baselines.

    Losses are in nats per token, and also per character and per byte. A window has no context before it. The baselines
    count 20 million training tokens, or 8 million if the vocabulary has more than 256 tokens, and at most as many as
    the model was trained on.

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
    train, val = tokens_to_device(train_ids, device), tokens_to_device(val_ids, device)
    collector = PredictionCollector(min(params.prediction_tokens, len(val) - 1))
    beginning, val = val[: params.prediction_tokens + 1], subsample(val, params.max_tokens, SUBSAMPLE_PARTS)
    log.debug("evaluating on %d tokens", len(val))
    with progress_bar() as progress:
        passes = 4 if trained.model.ngram_model is None else 5  # over the validation text
        predicted_once = int(predicted_in_blocks(len(val), block_size, stride).sum())  # for two losses
        task = progress.add_task("evaluate", total=passes * len(val) - predicted_once, note="tokens")
        track = partial(track_progress, callback=lambda batch: progress.advance(task, batch.count))
        if len(val) < len(val_ids):  # the evaluated pieces are not the beginning, which the report shows
            windows = blockwise_windows(beginning, block_size, params.batch_size)
            evaluate_loss(trained.model, windows, collector)
        report, metrics = measure_losses(trained, train, val, params, collector, track)
        if not metrics["val_loss"] < MAX_LOSS:
            raise ModelError(f"the loss of the model in {model_folder} is {metrics['val_loss']:g}; train it again")
        metrics |= measure_overlap(trained, train, val)
        attention_ids = attention_ids.to(device)
        predictions = assemble_predictions(collector, trained.model, attention_ids, short_block_size, stride)
        metrics["adaptive_val_loss"] = metrics["sliding_val_loss"]
        if trained.model.ngram_model is not None:
            counted = counted_tokens(train, trained.training.max_tokens)
            piece = adaptive_piece(trained.model, len(val))
            advance = partial(progress.advance, task)
            metrics["adaptive_val_loss"] = adaptive_loss(trained.model, counted, val, piece, advance)
    in_order = {name: metrics[name] for name in FIRST_METRICS} | metrics
    write_json(metrics_path, {name: round(value, 6) for name, value in in_order.items()})
    write_by_position(by_position_path, report)
    write_calibration(calibration_path, report.calibration)
    write_predictions(predictions_path, predictions, trained.tokenizer)
    log.info("%s: val_loss %.4f (bigram: %.4f)", metrics_path, report.loss, metrics["bigram_val_loss"])
    if metrics["val_loss"] > metrics["kneser_ney_val_loss"]:
        log.warning(
            "the model is worse than counting n-grams, whose loss is %.4f (kneser_ney_val_loss)%s",
            metrics["kneser_ney_val_loss"],
            "; the text may be too small for it" if trained.model.params.kind == "gpt" else "",
        )
    if metrics["val_copied_share"] > LARGELY_COPIED:
        log.warning(
            "%.0f %% of the validation text occurs in the training text (val_copied_share): the losses do not show how "
            "well the model predicts new text. If the text contains copies, remove them",
            100 * metrics["val_copied_share"],
        )
    finish_stage("evaluate", metrics_path, "folio sample", "folio report", "folio compare HEAD workspace")


def window_sizes(params: EvaluateParams, block_size: int) -> tuple[int, int]:
    """Return the window size of `short_block_val_loss` and the stride of `sliding_val_loss` for a block size.

    Raises:
        ParameterError: if the stride is larger than the block size.
    """
    stride = params.stride or max(1, block_size // 2)
    if stride > block_size:
        raise ParameterError(f"evaluate.stride is {stride}: it must be at most model.block_size, {block_size}")
    return min(params.short_block_size, block_size), stride


def measure_losses(
    trained: TrainedModel,
    train: Tensor,
    val: Tensor,
    params: EvaluateParams,
    collector: PredictionCollector,
    track: Progress,
) -> tuple[LossReport, Metrics]:
    """Return the losses of the model and of the baselines, in every kind of window.

    Args:
        trained: the model and its tokenizer.
        train: training tokens, (N,).
        val: validation tokens, (M,).
        params: window sizes.
        collector: gets the predictions in the windows of `val_loss`.
        track: reports the progress of each sequence of windows.
    """
    model, block_size, batch_size = trained.model, trained.model.params.block_size, params.batch_size
    short_block_size, stride = window_sizes(params, block_size)
    report = evaluate_loss(model, track(blockwise_windows(val, block_size, batch_size)), collector)
    train_size = min(block_size, len(train) - 1)
    train_windows = evenly_spaced_windows(train, train_size, max(1, TRAIN_LOSS_TOKENS // train_size))
    train_report = evaluate_loss(model, train_windows.batches(batch_size))
    metrics = model_metrics(trained, report, train_report, val)
    short_windows = blockwise_windows(val, short_block_size, batch_size * block_size // short_block_size)
    metrics["short_block_val_loss"] = evaluate_loss(model, track(short_windows)).loss
    metrics["sliding_val_loss"] = sliding_loss(model, val, stride, batch_size, report.token_losses, track)
    vocab_size = len(trained.tokenizer)
    limit = MAX_BASELINE_TOKENS if vocab_size <= SMALL_VOCAB_SIZE else MAX_BASELINE_TOKENS_LARGE_VOCAB
    counted = counted_tokens(train, trained.training.max_tokens)[:limit]
    metrics |= baseline_metrics(counted.cpu(), val.cpu(), vocab_size)
    same_text = len(counted) == len(train) and not trained.training.max_tokens
    baseline = model.ngram_model if same_text else None
    if baseline is None:
        baseline = fit_kneser_ney(trained, counted)
    baseline_report = evaluate_loss(baseline, track(blockwise_windows(val, block_size, batch_size)))
    metrics["kneser_ney_val_loss"] = baseline_report.loss
    return report, metrics


def sliding_loss(
    model: LanguageModel, val: Tensor, stride: int, batch_size: int, blockwise: Tensor, track: Progress
) -> float:
    """Return the loss in sliding windows; those that are blocks as well have been evaluated.

    Args:
        model: in evaluation mode.
        val: validation tokens, (M,).
        stride: distance of two windows.
        batch_size: windows per batch.
        blockwise: losses of all tokens but the first in consecutive windows, (M - 1,).
        track: reports the progress.
    """
    block_size = model.params.block_size
    losses = blockwise[predicted_in_blocks(len(val), block_size, stride)]
    windows = track(sliding_windows(val, block_size, stride, batch_size, without_blocks=True))
    others = [batch.flatten().cpu() for batch in token_losses(model, windows)]
    return float(torch.cat((losses, *others)).double().mean())


def counted_tokens(train: Tensor, max_tokens: int) -> Tensor:
    """Return the training tokens that a model has counted, (N,).

    Args:
        train: training tokens.
        max_tokens: `train.max_tokens` of its training.
    """
    return subsample(train, max_tokens, SUBSAMPLE_PIECES) if max_tokens else train


def adaptive_piece(model: LanguageModel, length: int) -> int:
    """Return the number of tokens between two counts of `adaptive_val_loss`, for a validation text of a length."""
    return min(max(MIN_PIECE, length // 64), MAX_PIECE, max(1, MAX_LOGITS // model.vocab_size))


def model_metrics(trained: TrainedModel, val_report: LossReport, train_report: LossReport, val: Tensor) -> Metrics:
    """Return the metrics of the model itself; docs/metrics.md defines them."""
    per_character, per_byte = convert_loss(val_report.loss, val, trained.tokenizer)
    return {
        "val_loss": val_report.loss,
        "train_loss": train_report.loss,
        "val_loss_per_character": per_character,
        "val_loss_per_byte": per_byte,
        "val_bits_per_character": per_character / math.log(2),
        "val_bits_per_byte": per_byte / math.log(2),
        "val_perplexity": math.exp(min(val_report.loss, MAX_LOSS)),
        "val_accuracy": val_report.accuracy,
        "generalization_gap": val_report.loss - train_report.loss,
        "calibration_error": val_report.calibration.error,
        "parameters": count_parameters(trained.model),
        "tokens_seen": trained.training.tokens_seen,
    }


def convert_loss(loss: float, val: Tensor, tokenizer: Tokenizer) -> tuple[float, float]:
    """Return a loss per token as losses per character and per byte of all tokens but the first."""
    counts = torch.bincount(val[1:].cpu().int(), minlength=len(tokenizer)).numpy()
    characters, size = (int(counts @ lengths) for lengths in tokenizer.token_lengths())
    return loss * (len(val) - 1) / max(1, characters), loss * (len(val) - 1) / size


def baseline_metrics(train: Tensor, val: Tensor, vocab_size: int) -> Metrics:
    """Return the losses of the uniform, unigram and bigram models."""
    train_ids, val_ids = train.numpy(), val.numpy()
    return {
        "uniform_val_loss": uniform_loss(vocab_size),
        "unigram_val_loss": unigram_loss(train_ids, val_ids, vocab_size),
        "bigram_val_loss": bigram_loss(train_ids, val_ids, vocab_size),
    }


def fit_kneser_ney(trained: TrainedModel, train: Tensor) -> LanguageModel:
    """Return a Kneser–Ney model with the vocabulary and the windows of a trained model."""
    params = trained.model.params.model_copy(update={"kind": "kneser_ney"})
    model = build_model(params, len(trained.tokenizer)).to(train.device)
    model.fit(train)
    return model


def measure_overlap(trained: TrainedModel, train: Tensor, val: Tensor) -> Metrics:
    """Return how much of freely generated text, and of the validation text, occurs verbatim in the training text.

    The temperature is 1, regardless of `sample:`, so that runs can be compared.
    """
    start = val[:1].long().expand(OVERLAP_SAMPLES, 1)
    seeds = list(range(OVERLAP_SAMPLES))
    generated = generate_tokens(trained.model, start, OVERLAP_LENGTH, SamplingParams(), seeds).numpy()
    decode, training_text = trained.tokenizer.decode, TrainingText(train.cpu().numpy(), trained.tokenizer)
    of_model = verbatim_overlap([decode(ids)[:OVERLAP_LENGTH] for ids in generated], training_text)
    val_text = decode(val[: generated.size].cpu().numpy())[: generated.size]
    of_val = verbatim_overlap([val_text], training_text)
    return {
        "copied_share": of_model.share,
        "longest_copy": of_model.longest,
        "val_copied_share": of_val.share,
    }


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
    positions = range(1, len(report.counts) + 1)
    rows = zip(positions, report.loss_by_position.tolist(), report.counts.tolist(), strict=True)
    write_tsv(path, ("position", "val_loss", "tokens"), (row for row in rows if row[2]))


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write confidence and accuracy in every bin that is not empty."""
    bins = calibration.confidence.tolist(), calibration.accuracy.tolist(), calibration.counts.long().tolist()
    write_tsv(path, ("confidence", "accuracy", "tokens"), (row for row in zip(*bins, strict=True) if row[2]))
