"""Metrics of a model whose probabilities are known, by hand."""

import math
from dataclasses import replace

import pytest
import torch

from stages.core.errors import ParameterError
from stages.core.records import TrainingRecord
from stages.evaluate.measurements import (
    convert_loss,
    measure_losses,
    measure_overlap,
    model_metrics,
    num_baseline_tokens,
    own_baseline,
    sliding_loss,
    window_sizes,
)
from stages.evaluate.params import EvaluateParams
from stages.evaluate.predictions import PredictionCollector
from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import blockwise_windows, sliding_windows
from stages.models.base import build_model
from stages.models.bigram import Bigram
from stages.models.model_folder import TrainedModel
from stages.models.ngram.ngram_memory import bytes_per_token
from stages.tokenizers.byte import ByteTokenizer
from stages.tokenizers.char import CharTokenizer
from tests.conftest import model_params, randomize


@pytest.fixture
def trained() -> TrainedModel:
    """Return a bigram model of a, b and ä: after any character, a has probability 0.5, b and ä 0.25 each."""
    model = build_model(model_params(kind="bigram"), 3).eval()
    assert isinstance(model, Bigram)
    model.table.weight.data.copy_(torch.tensor([0.5, 0.25, 0.25]).log().expand(3, 3))
    return TrainedModel(model, CharTokenizer.from_text("abä"), TrainingRecord(tokens_seen=7))


def test_every_metric_has_the_value_by_hand(trained):
    val = torch.tensor([0, 0, 1, 2, 0])  # predicts a, b, ä, a: 1 + 2 + 2 + 1 bits
    train = torch.tensor([1, 0, 0])  # predicts a, a: 1 + 1 bits
    reports = [evaluate_loss(trained.model, blockwise_windows(ids, 32, 1)) for ids in (val, train)]
    metrics = model_metrics(trained, *reports, val)
    assert metrics == pytest.approx({
        "val_loss": 1.5 * math.log(2),
        "train_loss": math.log(2),
        "val_loss_per_character": 1.5 * math.log(2),
        "val_loss_per_byte": 1.2 * math.log(2),  # ä has two bytes
        "val_bits_per_character": 1.5,
        "val_bits_per_byte": 1.2,
        "val_perplexity": 2**1.5,
        "val_accuracy": 0.5,
        "generalization_gap": 0.5 * math.log(2),
        "calibration_error": 0.0,  # confidence 0.5, accuracy 0.5
        "parameters": 9,
        "tokens_seen": 7,
    }, abs=1e-6)  # fmt: skip


def test_the_training_loss_is_measured_in_batches_of_windows_and_on_a_text_shorter_than_one(trained, monkeypatch):
    sizes = []
    predict = trained.model.forward
    monkeypatch.setattr(trained.model, "forward", lambda ids, **_: sizes.append(ids.shape) or predict(ids))
    monkeypatch.setattr("stages.evaluate.measurements.TRAIN_LOSS_TOKENS", 5 * 32)
    val, collector = torch.tensor([0, 1, 0]), PredictionCollector(2)
    for train, expected in ((torch.zeros(1000, dtype=torch.uint8), [(2, 32), (2, 32), (1, 32)]), (val, [(1, 2)])):
        sizes.clear()
        params = EvaluateParams(batch_size=2)
        _, metrics = measure_losses(trained, train, train, val, params, collector, track=lambda windows: windows)
        assert sizes[1 : 1 + len(expected)] == expected  # after the one window of the validation text
    assert metrics["train_loss"] == pytest.approx(1.5 * math.log(2))


@pytest.mark.parametrize("copied", [slice(0, 0), slice(0, 5000), slice(5000, 10_000)], ids=["none", "first", "second"])
def test_copied_validation_text_is_found_wherever_it_is(trained, monkeypatch, copied):
    monkeypatch.setattr("stages.evaluate.measurements.OVERLAP_SAMPLES", 10)
    generator = torch.Generator().manual_seed(1)
    train, val = (torch.randint(3, (10_000,), generator=generator, dtype=torch.uint8) for _ in range(2))
    val[copied] = train[copied]
    share = measure_overlap(trained, train, val)["val_copied_share"]
    assert share == pytest.approx((copied.stop - copied.start) / 10_000, abs=0.05)


def test_a_loss_per_token_is_converted_to_characters_and_bytes():
    val = torch.tensor(list("aä水".encode()))  # six bytes, the first is not predicted
    assert convert_loss(1.0, val, ByteTokenizer()) == pytest.approx((5 / 2, 5 / 5))


@pytest.mark.parametrize(
    ("stride", "block_size", "sizes"), [(0, 100, (100, 50)), (7, 1000, (256, 7)), (0, 1, (1, 1)), (8, 8, (8, 8))]
)
def test_window_sizes_default_to_half_a_block(stride, block_size, sizes):
    assert window_sizes(EvaluateParams(stride=stride), block_size) == sizes


def test_a_stride_beyond_the_block_is_refused():
    with pytest.raises(ParameterError, match=r"evaluate.stride is 9: it must be at most model.block_size, 8"):
        window_sizes(EvaluateParams(stride=9), 8)


@pytest.mark.parametrize("stride", [3, 4, 6, 12])
@pytest.mark.parametrize("length", [9, 13, 40, 61])
def test_the_sliding_loss_needs_no_second_evaluation_of_blocks(stride, length):
    model = randomize(build_model(model_params(block_size=12), 5)).eval()
    val = torch.randint(5, (length,))
    blockwise = evaluate_loss(model, blockwise_windows(val, 12, 2)).token_losses
    expected = evaluate_loss(model, sliding_windows(val, 12, stride, 2)).loss
    assert sliding_loss(model, val, stride, 2, blockwise, lambda windows: windows) == pytest.approx(expected, rel=1e-5)


def test_the_baselines_count_what_the_model_was_trained_on(trained):
    limited = replace(trained, training=TrainingRecord(params={"max_tokens": 100}))
    assert num_baseline_tokens(trained, 1000) == 1000
    assert num_baseline_tokens(limited, 1000) == 100
    assert num_baseline_tokens(limited, 50) == 50


def test_the_baselines_count_as_much_as_the_free_memory_allows(trained, monkeypatch, caplog):
    per_token = bytes_per_token(trained.model.params.ngram_order, 3, cross_fitting=False)
    monkeypatch.setattr("stages.models.ngram.ngram_memory.free_bytes", lambda: 100 * per_token)
    assert num_baseline_tokens(trained, 1000) == 100
    assert "kneser_ney_val_loss: only 100 of 1000 tokens are counted" in caplog.text


def test_the_n_grams_of_a_model_are_the_baseline_unless_they_count_too_much(trained, monkeypatch):
    monkeypatch.setattr("stages.models.ngram.ngram_memory.free_bytes", lambda: 1)
    counting = replace(trained, model=build_model(model_params(kind="kneser_ney"), 3).eval())
    assert num_baseline_tokens(counting, 1000) == 1000
    assert own_baseline(counting, 1000) is counting.model
    assert own_baseline(trained, 1000) is None
    monkeypatch.setattr("stages.models.ngram.ngram_memory.MAX_COUNTED_TOKENS", 999)
    assert own_baseline(counting, 1000) is None
    assert num_baseline_tokens(counting, 1000) == 1
