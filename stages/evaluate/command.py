"""evaluate: how good the model is, beside what plain counting reaches."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor

from stages.core import files
from stages.core.device import ComputeParams, prepare
from stages.core.errors import ParameterError
from stages.core.files import write_tsv
from stages.core.logs import log, progress_bar, start_log, watched
from stages.core.options import StageCommand, model_option, output_file_option, params_option, tokens_option
from stages.core.params import read_section
from stages.evaluate.params import EvaluateParams
from stages.generation.sampling import Choice
from stages.generation.streaming import generate
from stages.metrics.losses import Measured, Windows, blockwise, measure, sliding
from stages.metrics.memorization import Known, copied
from stages.metrics.ngram_baselines import bigram_loss, uniform_loss, unigram_loss
from stages.models.base import LanguageModel, build, count_parameters
from stages.models.model_folder import Saved, load
from stages.models.ngram.ram_check import SMALL_VOCABULARY
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.token_files import load_tokens, on_device

# Tokens of the training text that plain counting sees, with a small vocabulary and a large: some 2 GB at order 7.
COUNTED, COUNTED_OF_MANY = 20_000_000, 8_000_000
PASSES = 6  # over the validation part, about: four in windows side by side, one in windows that overlap by half
COPY_SAMPLES, COPY_LENGTH = 16, 512
STRETCHES = 16

Watch = Callable[[Iterable[Windows]], Iterable[Windows]]


@click.command(name="evaluate", cls=StageCommand)
@params_option
@tokens_option
@model_option
@output_file_option("--metrics", "metrics", "reports/metrics.json", "The file for the figures.")
@output_file_option(
    "--by-position",
    "by_position",
    "reports/loss_by_position.tsv",
    "The file for the loss at each position of a window.",
)
@output_file_option(
    "--calibration", "calibration", "reports/calibration.tsv", "The file for confidence beside accuracy."
)
def command(
    params_path: Path, tokens: Path, model_folder: Path, metrics: Path, by_position: Path, calibration: Path
) -> None:
    """Measure the model on the validation split, in windows of its block size, beside plain counting.

    Losses are in nats per token, a character or what tokenize.kind says, and per character and byte as well; a window
    sees nothing before it. Counting sees the first 20 million tokens, or 8 million where there are more than 256 kinds.

    Example: folio evaluate --model models --metrics reports/metrics.json
    """
    start_log("evaluate")
    compute = read_section(params_path, "compute", ComputeParams)
    params = read_section(params_path, "evaluate", EvaluateParams)
    saved = load(model_folder)
    train, val = load_tokens(tokens, saved.tokenizer)
    device = prepare(compute)
    saved.model.to(device)
    train, val = on_device(train, device), on_device(from_all_over(val, params.max_tokens), device)
    log.debug("measuring on %d tokens", len(val))
    with progress_bar() as progress:
        task = progress.add_task("evaluate", total=PASSES * len(val), note="tokens")
        watch = partial(watched, tell=lambda batch: progress.advance(task, batch.targets.numel()))
        on_val, figures = losses(saved, train, val, params, watch)
    figures |= copy_figures(saved, train, val)
    files.write_json(metrics, figures)
    rows = zip(range(1, len(on_val.counts) + 1), on_val.by_position.tolist(), on_val.counts.tolist(), strict=True)
    write_tsv(by_position, ("position", "val_loss", "tokens"), (row for row in rows if row[2]))
    bins = on_val.calibration
    rows = zip(bins.confidence.tolist(), bins.accuracy.tolist(), bins.counts.long().tolist(), strict=True)
    write_tsv(calibration, ("confidence", "accuracy", "tokens"), (row for row in rows if row[2]))
    log.info("%s: val_loss %.4f; counting pairs gives %.4f", metrics, on_val.loss, figures["bigram_val_loss"])
    log.info("next: folio sample, folio report, folio compare HEAD workspace")


def from_all_over(tokens: Tensor, most: int) -> Tensor:
    """Give a text, (N,), or, where it is longer than `most`, that many tokens of it, in STRETCHES from all over it."""
    if len(tokens) <= most:
        return tokens
    length = -(-most // STRETCHES)
    starts = torch.linspace(0, len(tokens) - length, STRETCHES, dtype=torch.float64).long().tolist()
    return torch.cat([tokens[start : start + length] for start in starts])[:most]


def losses(
    saved: Saved, train: Tensor, val: Tensor, params: EvaluateParams, watch: Watch
) -> tuple[Measured, dict[str, float | int]]:
    """Measure the model, and what plain counting reaches, in every kind of windows; `watch` sees each batch of them."""
    model, size, batch_size = saved.model, saved.model.params.block_size, params.batch_size
    on_val = measure(model, watch(blockwise(val, size, batch_size)))
    on_train = measure(model, watch(blockwise(train[: len(val)], size, batch_size)))
    figures = summarize(saved, on_val, on_train, val)
    short = min(params.short_block, size)
    in_short_blocks = measure(model, watch(blockwise(val, short, batch_size * size // short)))
    figures["short_block_val_loss"] = round(in_short_blocks.loss, 6)
    slid = measure(model, watch(sliding(val, size, stride_of(params, size), batch_size)))
    figures["sliding_val_loss"] = round(slid.loss, 6)
    counted = train[: COUNTED if len(saved.tokenizer) <= SMALL_VOCABULARY else COUNTED_OF_MANY]
    figures |= baselines(counted.cpu(), val.cpu(), len(saved.tokenizer))
    counting = count(saved, counted)
    figures["kneser_ney_val_loss"] = round(measure(counting, watch(blockwise(val, size, batch_size))).loss, 6)
    return on_val, figures


def summarize(saved: Saved, on_val: Measured, on_train: Measured, val: Tensor) -> dict[str, float | int]:
    """Give the model's own figures."""
    per_character, per_byte = per_text(on_val.loss, val, saved.tokenizer)
    return {
        "val_loss": round(on_val.loss, 6),
        "train_loss": round(on_train.loss, 6),
        "val_loss_per_character": round(per_character, 6),
        "val_loss_per_byte": round(per_byte, 6),
        "val_bits_per_character": round(per_character / math.log(2), 6),
        "val_bits_per_byte": round(per_byte / math.log(2), 6),
        "val_perplexity": round(math.exp(on_val.loss), 6),
        "val_accuracy": round(on_val.accuracy, 6),
        "generalization_gap": round(on_val.loss - on_train.loss, 6),
        "calibration_error": round(on_val.calibration.error, 6),
        "parameters": count_parameters(saved.model),
        "tokens_seen": saved.training["tokens_seen"],
    }


def per_text(loss: float, val: Tensor, tokenizer: Tokenizer) -> tuple[float, float]:
    """Give a loss per token as a loss per character and per byte of what was predicted, all but the first token."""
    times = torch.bincount(val[1:].cpu().int(), minlength=len(tokenizer)).numpy()
    characters, size = (int(times @ each) for each in tokenizer.lengths())
    return loss * (len(val) - 1) / max(1, characters), loss * (len(val) - 1) / size


def stride_of(params: EvaluateParams, block_size: int) -> int:
    """Give by how much windows move for `sliding_val_loss`: each token has at least block_size - stride before it.

    Raises:
        ParameterError: where the stride is longer than the block.
    """
    stride = params.stride or max(1, block_size // 2)
    if stride > block_size:
        raise ParameterError(f"evaluate.stride is {stride}: it must not be above model.block_size, {block_size}")
    return stride


def count(saved: Saved, train: Tensor) -> LanguageModel:
    """Give a model that counts alone, with the same vocabulary and windows."""
    counting = saved.model.params.model_copy(update={"kind": "kneser_ney"})
    model = build(counting, len(saved.tokenizer)).to(train.device)
    model.fit(train)
    return model


def copy_figures(saved: Saved, train: Tensor, val: Tensor) -> dict[str, float | int]:
    """Let the model write freely, and look how much of it stands in the training text; the same of real text beside it.

    At temperature 1, whatever `sample:` says, so that runs compare.
    """
    start = val[:1].long().expand(COPY_SAMPLES, 1)
    written = generate(saved.model, start, COPY_LENGTH, Choice(), list(range(COPY_SAMPLES))).cpu().numpy()
    decode, known = saved.tokenizer.decode, Known(train.cpu().numpy(), saved.tokenizer)
    of_model = copied([decode(each)[:COPY_LENGTH] for each in written], known)
    of_val = copied([decode(val[: written.size].cpu().numpy())[: written.size]], known)
    return {
        "copied_share": round(of_model.share, 6),
        "longest_copy": of_model.longest,
        "val_copied_share": round(of_val.share, 6),
    }


def baselines(train: Tensor, val: Tensor, vocabulary_size: int) -> dict[str, float]:
    """Give the losses of counting, on the same tokens."""
    train_ids, val_ids = train.long().numpy(), val.long().numpy()
    return {
        "uniform_val_loss": round(uniform_loss(vocabulary_size), 6),
        "unigram_val_loss": round(unigram_loss(train_ids, val_ids, vocabulary_size), 6),
        "bigram_val_loss": round(bigram_loss(train_ids, val_ids, vocabulary_size), 6),
    }
