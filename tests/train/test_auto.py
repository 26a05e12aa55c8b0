"""The rule is valid for every text, grows with the budget, and changes little when the text does."""

import itertools
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.models.params import ModelParams
from stages.train.auto import (
    Settings,
    TextSize,
    budget_matters,
    choose_settings,
    describe_settings,
    divisor_near,
    floor_power_of_two,
    max_passes,
    step_seconds,
    tokens_per_step,
    training_bytes,
)
from stages.train.params import TrainParams

TOKENS = st.integers(100, 10**10)
VOCAB = st.integers(2, 60_000)
BUDGET = st.floats(0.01, 1000)


def resolve(train: int, vocab_size: int = 65, budget: float = 1.0, **explicit: Any) -> Settings:
    model = {key: value for key, value in explicit.items() if key in ModelParams.model_fields}
    training = {key: value for key, value in explicit.items() if key in TrainParams.model_fields}
    settings = Settings(model, training)
    choose_settings(settings, TextSize(train, train // 9, vocab_size), budget)
    return settings


def chosen(train: int, vocab_size: int = 65, budget: float = 1.0, **explicit: Any) -> tuple[ModelParams, TrainParams]:
    settings = resolve(train, vocab_size, budget, **explicit)
    return ModelParams.model_validate(settings.model), TrainParams.model_validate(settings.train)


@given(TOKENS, VOCAB, BUDGET)
def test_every_text_gets_valid_settings_and_windows_that_fit(train, vocab_size, budget):
    model, training = chosen(train, vocab_size, budget)
    assert model.block_size < train // 9
    assert model.sliding_window <= model.block_size
    assert training.warmup_steps <= training.max_steps
    assert training.max_tokens < train


@given(TOKENS, VOCAB, BUDGET, st.floats(1.0, 100.0))
@example(589_824, 2, 4.0, 2.0)  # four layers of 128 instead of two of 192
def test_a_larger_budget_never_means_less_training(train, vocab_size, budget, factor):
    small, large = (resolve(train, vocab_size, minutes) for minutes in (budget, budget * factor))
    seconds = [settings.train["max_steps"] * step_seconds(settings, vocab_size) for settings in (small, large)]
    # Widths are rounded down: as many weights in twice the layers can cost up to 1.4 times less.
    assert seconds[0] <= seconds[1] * 1.4 + 1
    assert large.model["n_layer"] >= small.model["n_layer"]


@given(st.integers(2000, 10**9), VOCAB, st.floats(0.1, 100))
def test_the_expected_time_is_within_the_budget(train, vocab_size, budget):
    settings = resolve(train, vocab_size, budget)
    seconds = settings.train["max_steps"] * step_seconds(settings, vocab_size)
    assert settings.train["max_steps"] == 1 or seconds <= 60 * budget * 1.01 + 2


@given(st.integers(10_000, 10**9), VOCAB, BUDGET)
def test_one_percent_more_text_changes_little(train, vocab_size, budget):
    first, second = (resolve(size, vocab_size, budget) for size in (train, train + train // 100))
    assert second.model["n_embd"] <= 2 * first.model["n_embd"]
    assert first.model["block_size"] <= second.model["block_size"] <= 2 * first.model["block_size"]


@given(TOKENS, VOCAB, BUDGET)
def test_no_text_is_read_more_often_than_small_models_bear(train, vocab_size, budget):
    settings = resolve(train, vocab_size, budget)
    read = settings.train["max_steps"] * tokens_per_step(settings)
    assert read <= max_passes(train) * train + tokens_per_step(settings)


def test_the_smallest_texts_are_read_less_often():
    passes = [max_passes(tokens) for tokens in (100, 16_000, 24_000, 32_000, 10**9)]
    assert passes == [4.0, 4.0, 6.0, 8.0, 8.0]


def test_explicit_values_are_taken_as_they_are_and_the_others_follow_them():
    model, training = chosen(1_000_000, n_embd=96, n_head=6, block_size=128, max_steps=77, dropout=0.5)
    assert (model.n_embd, model.n_head, model.block_size, model.dropout) == (96, 6, 128, 0.5)
    assert (training.max_steps, training.batch_size) == (77, 16)
    assert chosen(1_000_000, n_head=5)[0].n_embd % 10 == 0
    assert chosen(1_000_000, n_embd=130)[0].n_head == 5


def test_a_small_text_gets_small_windows_few_steps_and_dropout():
    (tiny, short), (large, long) = chosen(9_000), chosen(1_000_000)
    assert tiny.block_size == 512
    assert tiny.n_embd < large.n_embd == 128
    assert (short.batch_size, short.max_steps) == (1, round(4 * 9_000 / 512))
    assert {chosen(tokens)[0].dropout for tokens in range(8_000, 40_000, 997)} == {0.1}
    assert large.dropout == 0.0
    assert long.max_steps > 1000


def test_the_weights_decay_in_many_steps_over_the_same_text_only():
    of_budgets = [chosen(1_000_000, budget=budget)[1].weight_decay for budget in (1.0, 10.0)]
    assert of_budgets == [0.0, 0.1]
    assert chosen(40_000, budget=10.0)[1].weight_decay == 0.0  # few steps
    assert chosen(10**7, budget=2.0)[1].weight_decay == 0.0  # less than a pass
    assert chosen(1_000_000, budget=10.0, weight_decay=0.3)[1].weight_decay == 0.3
    assert chosen(1_000_000, budget=10.0, dropout=0.0)[1].weight_decay == 0.1  # whatever the dropout is
    assert chosen(10**7, budget=2.0, dropout=0.2)[1].weight_decay == 0.0


def test_several_processes_share_the_windows_of_a_batch():
    for processes, train in itertools.product((2, 3, 8), (9_000, 1_000_000)):
        settings = Settings({}, {})
        choose_settings(settings, TextSize(train, train // 9, 65), 1.0, processes)
        assert settings.train["batch_size"] % processes == 0
        assert tokens_per_step(settings) <= 2048
        if processes != 3:
            assert settings.model["n_embd"] == resolve(train).model["n_embd"]


@pytest.mark.parametrize(
    ("explicit", "reason"),
    [
        ({}, "the cache language model sees the rest of the window"),
        ({"cache_lm": False}, "constant; 0: the whole block"),
        ({"prior": "none"}, "constant; 0: the whole block"),
    ],
)
def test_the_reason_for_the_attention_window_is_true(explicit, reason):
    settings = resolve(1_000_000, **explicit)
    assert [setting.reason for setting in settings.chosen if setting.key == "model.sliding_window"] == [reason]


def test_heads_are_chosen_as_many_as_are_allowed():
    assert 128 < chosen(1_000_000, n_embd=16384)[0].n_head <= 256


def test_an_explicit_batch_size_gets_smaller_windows():
    model, training = chosen(1_000_000, batch_size=64)
    assert (training.window_size, training.batch_size, model.block_size) == (0, 64, 64)
    assert chosen(1_000_000, batch_size=8)[0].block_size == 256
    assert chosen(1_000_000, batch_size=256)[0].block_size == 64
    assert chosen(1_000_000, vocab_size=60_000, batch_size=64)[0].block_size == 2  # more would not fit into memory
    model, training = chosen(1_000_000, kind="lecture_gpt", batch_size=64)  # learns an embedding of each position
    assert (training.window_size, training.batch_size, model.block_size) == (0, 64, 64)


def test_with_an_explicit_block_size_training_windows_are_blocks():
    model, training = chosen(1_000_000, block_size=256, batch_size=64)
    assert (model.block_size, training.window_size, training.batch_size) == (256, 0, 64)


@pytest.mark.parametrize(("train", "window_size"), [(9_000, 0), (40_000, 512), (64_000, 1024), (110_000, 0)])
def test_a_small_text_gets_short_windows_and_a_long_context(train, window_size):
    model, training = chosen(train)
    assert training.window_size == window_size
    assert training.batch_size == 1
    assert model.block_size == min(2048, floor_power_of_two(train // 10))


def test_a_part_of_a_text_gets_the_settings_of_a_text_of_that_size():
    part, whole = resolve(1_000_000, max_tokens=20_000), resolve(20_000)
    for key in ("n_embd", "dropout", "block_size"):
        assert part.model[key] == whole.model[key]
    assert part.train["max_steps"] == whole.train["max_steps"]


def test_a_large_vocabulary_does_not_mean_the_narrowest_model():
    assert chosen(1_000_000, vocab_size=1024)[0].n_embd >= 96


def test_ngrams_are_as_long_as_memory_allows():
    orders = [
        resolve(tokens).model["ngram_order"] for tokens in (9_000, 2_000_000, 2_500_000, 3_000_000, 4_000_000, 10**8)
    ]
    assert orders == [10, 10, 9, 8, 7, 7]
    assert resolve(10**8, max_tokens=20_000).model["ngram_order"] == 10


def test_models_that_count_nothing_use_all_of_a_text():
    settings = resolve(10**8, kind="bigram")
    assert settings.train["max_tokens"] == 0
    assert not {"prior", "ngram_order", "cross_fit_folds", "cache_lm", "sliding_window"} & set(settings.model)
    assert "ngram_order" not in resolve(10**8, prior="none").model
    assert chosen(10**8, kind="kneser_ney")[1].max_tokens == 1_300_000_000 // (7 * 15)


def test_a_text_that_cannot_be_counted_in_memory_is_subsampled():
    assert chosen(4_000_000)[1].max_tokens == 0
    assert chosen(10**8)[1].max_tokens == 1_300_000_000 // (7 * 40)
    assert chosen(10**8, prior="none")[1].max_tokens == 0


def test_the_settings_are_described_with_reasons_time_and_a_warning():
    text = TextSize(20_000, 2_000, 65)
    settings = Settings({"n_layer": 3}, {})
    choose_settings(settings, text, 1.0)
    lines = "\n".join(describe_settings(settings, text, 1.0))
    assert "chosen for 20000 training tokens, a vocabulary of 65 and budget 1:" in lines
    assert "train.max_steps" in lines
    assert "5.0 passes over the text" in lines
    assert "model.n_layer" not in lines  # it is in params.yaml
    assert re.search(r"expected: \d+ s of steps on two idle CPU cores .*, and 4[0-3]\d MB of memory", lines)
    assert "this text is small" in lines
    assert "a larger budget gives the same settings" in lines


@pytest.mark.parametrize(
    ("train", "budget", "matters"), [(20_000, 1, False), (20_000, 0.01, True), (1_000_000, 1, True)]
)
def test_a_budget_matters_until_the_text_is_the_limit(train, budget, matters):
    settings = resolve(train, budget=budget)
    assert budget_matters(settings, TextSize(train, train // 9, 65), budget) == matters


def test_what_a_model_to_start_from_decides_does_not_change_with_the_budget():
    settings = Settings({}, {"max_steps": 100})
    settings.choose("model.n_embd", 512, "as in train.init_from")
    choose_settings(settings, TextSize(20_000, 2_000, 65), 1.0)
    assert not budget_matters(settings, TextSize(20_000, 2_000, 65), 1.0)


@given(TOKENS, VOCAB, BUDGET, st.sampled_from([1, 2, 3, 8]), st.sampled_from([None, 0, 7, 200]))
def test_training_windows_are_at_least_as_long_as_attention_reaches(train, vocab_size, budget, batch_size, attention):
    explicit = {} if attention is None else {"sliding_window": attention}
    model, training = chosen(train, vocab_size, budget, batch_size=batch_size, **explicit)
    reach = min(model.sliding_window or model.block_size, model.block_size)
    assert reach <= (training.window_size or model.block_size) <= model.block_size


def test_every_process_needs_memory_for_its_own_counts():
    settings, text = resolve(1_000_000), TextSize(1_000_000, 100_000, 65)
    one, two = (training_bytes(settings, text, processes) for processes in (1, 2))
    assert 610_000_000 < two - one < 1_300_000_000


def test_a_deep_model_needs_a_long_text_and_a_large_budget():
    layers = [chosen(train, budget=budget)[0].n_layer for train in (100_000, 1_000_000) for budget in (1, 10)]
    assert layers == [2, 2, 2, 4]


@pytest.mark.parametrize(("value", "power"), [(0, 1), (1, 1), (2, 2), (3, 2), (2047, 1024), (2048, 2048)])
def test_power_of_two_below(value, power):
    assert floor_power_of_two(value) == power


@pytest.mark.parametrize(("width", "heads", "divisor"), [(64, 2.0, 2), (96, 3.0, 3), (130, 4.0, 5), (2, 1.0, 1)])
def test_divisor_near(width, heads, divisor):
    assert divisor_near(width, heads) == divisor
    assert width % (2 * divisor) == 0
