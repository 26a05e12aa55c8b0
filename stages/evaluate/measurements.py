"""Measure a trained model: its losses in every kind of window, those of baselines, and copied text."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from stages.core.errors import ParameterError
from stages.core.records import Metrics
from stages.evaluate.params import EvaluateParams
from stages.evaluate.predictions import PredictionCollector
from stages.generation.params import SamplingParams
from stages.generation.streaming import generate_tokens
from stages.losses.adaptive import adaptive_losses
from stages.losses.window_losses import LossReport, evaluate_loss, token_losses
from stages.losses.windows import (
    Windows,
    blockwise_windows,
    evenly_spaced_windows,
    is_scored_in_blocks,
    sliding_windows,
)
from stages.metrics.memorization import TrainingText, verbatim_overlap
from stages.metrics.ngram_baselines import bigram_loss, uniform_loss, unigram_loss
from stages.models.base import LanguageModel, build_model, count_parameters
from stages.models.model_folder import TrainedModel
from stages.models.ngram.ngram_memory import bytes_per_token, countable_tokens, max_counted_tokens
from stages.tokenizers.base import Tokenizer

TRAIN_LOSS_TOKENS = 1 << 16  # training tokens that train_loss is measured on
OVERLAP_SAMPLES, OVERLAP_LENGTH = 32, 256
MAX_LOSS = 700.0  # nats; no model that has learned anything is near, and exp(710) overflows

Progress = Callable[[Iterable[Windows]], Iterable[Windows]]


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
    counted: Tensor,
    val: Tensor,
    params: EvaluateParams,
    collector: PredictionCollector,
    track: Progress,
) -> tuple[LossReport, Metrics]:
    """Return the losses of the model and of the baselines, in every kind of window.

    Args:
        trained: the model and its tokenizer.
        train: training tokens, (N,).
        counted: those that the baselines count, (C,); see `num_baseline_tokens`.
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
    metrics |= baseline_metrics(counted.cpu(), val.cpu(), len(trained.tokenizer))
    baseline = own_baseline(trained, len(train)) or fit_kneser_ney(trained, counted)
    baseline_report = evaluate_loss(baseline, track(blockwise_windows(val, block_size, batch_size)))
    metrics["kneser_ney_val_loss"] = baseline_report.loss
    return report, metrics


def sliding_loss(
    model: LanguageModel, val: Tensor, stride: int, batch_size: int, blockwise: Tensor, track: Progress
) -> float:
    """Return the loss in sliding windows; those that are blocks as well have been evaluated.

    Args:
        model: the model, in evaluation mode.
        val: validation tokens, (M,).
        stride: distance of two windows.
        batch_size: windows per batch.
        blockwise: losses of all tokens but the first in consecutive windows, (M - 1,).
        track: reports the progress.
    """
    block_size = model.params.block_size
    losses = blockwise[is_scored_in_blocks(len(val), block_size, stride)]
    windows = track(sliding_windows(val, block_size, stride, batch_size, skip_block_windows=True))
    others = [batch.flatten().cpu() for batch in token_losses(model, windows)]
    return float(torch.cat((losses, *others)).double().mean())


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


def own_baseline(trained: TrainedModel, num_train: int) -> LanguageModel | None:
    """Return the n-gram model of a model, or None if it has none, or one that counts more than a baseline may.

    Args:
        trained: the model and its tokenizer.
        num_train: length of the training text.
    """
    is_countable = num_trained_on(trained, num_train) <= max_counted_tokens(len(trained.tokenizer))
    return trained.model.ngram_model if is_countable else None


def num_baseline_tokens(trained: TrainedModel, num_train: int) -> int:
    """Return how many training tokens the baselines count: those that the model was trained on, or as many as fit.

    The arguments are those of `own_baseline`.
    """
    num_tokens, vocab_size = num_trained_on(trained, num_train), len(trained.tokenizer)
    if own_baseline(trained, num_train):
        return num_tokens  # the model has counted them
    per_token = bytes_per_token(trained.model.params.ngram_order, vocab_size, cross_fitting=False)
    return countable_tokens("kneser_ney_val_loss", num_tokens, vocab_size, per_token)


def num_trained_on(trained: TrainedModel, num_train: int) -> int:
    """Return how many of its `num_train` training tokens a model was trained on."""
    return min(num_train, trained.training.max_tokens or num_train)


def fit_kneser_ney(trained: TrainedModel, train: Tensor) -> LanguageModel:
    """Return a Kneser–Ney model of a text, (N,), with the vocabulary and the windows of a trained model."""
    params = trained.model.params.model_copy(update={"kind": "kneser_ney"})
    model = build_model(params, len(trained.tokenizer)).to(train.device)
    model.fit(train)
    return model


def measure_adaptive_loss(model: LanguageModel, train: Tensor, val: Tensor, advance: Callable[[int], None]) -> float:
    """Return `adaptive_val_loss` of a model that has an n-gram model.

    Args:
        model: the model, in evaluation mode.
        train: training tokens that are counted first, (N,).
        val: validation tokens, (M,).
        advance: called with the number of tokens of each chunk.
    """
    losses = []
    for chunk in adaptive_losses(model, train, val):
        losses.append(chunk.cpu())
        advance(len(chunk))
    return float(torch.cat(losses).double().mean())


def measure_overlap(trained: TrainedModel, train: Tensor, val: Tensor) -> Metrics:
    """Return how much of freely generated text, and of passages from all over the validation text, is copied.

    Copied text occurs verbatim in the training text.

    The temperature is 1, regardless of `sample:`, so that runs can be compared.
    """
    start = val[:1].long().expand(OVERLAP_SAMPLES, 1)
    seeds = list(range(OVERLAP_SAMPLES))
    generated = generate_tokens(trained.model, start, OVERLAP_LENGTH, SamplingParams(), seeds).numpy()
    decode, training_text = trained.tokenizer.decode, TrainingText(train.cpu().numpy(), trained.tokenizer)
    of_model = verbatim_overlap([decode(ids)[:OVERLAP_LENGTH] for ids in generated], training_text)
    starts = torch.linspace(0, max(0, len(val) - OVERLAP_LENGTH), OVERLAP_SAMPLES, dtype=torch.float64).long().tolist()
    passages = [decode(val[start : start + OVERLAP_LENGTH].cpu().numpy())[:OVERLAP_LENGTH] for start in starts]
    of_val = verbatim_overlap(passages, training_text)
    return {
        "copied_share": of_model.share,
        "longest_copy": of_model.longest,
        "val_copied_share": of_val.share,
    }
