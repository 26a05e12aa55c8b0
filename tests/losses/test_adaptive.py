from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from stages.losses.adaptive import MIN_CHUNK, adaptive_chunk_size, adaptive_losses, countable_training_text
from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import sliding_windows
from stages.models.base import LanguageModel, build_model
from stages.models.gpt import GPT
from stages.models.kneser_ney import KneserNey
from stages.models.ngram.adaptive_experts import AdaptiveCounts, AdaptiveExperts
from stages.models.ngram.context_index import ContextIndex
from stages.models.ngram.ngram_experts import expert_probs
from stages.models.ngram.ngram_memory import adaptive_bytes_per_token
from stages.tokenizers.token_files import TokenSource, subsample_training_text
from tests.conftest import model_params

VOCAB_SIZE, BLOCK_SIZE, START = 7, 12, 301
GENERATOR = torch.Generator().manual_seed(1)
TRAIN = torch.randint(VOCAB_SIZE, (START - 1,), generator=GENERATOR)
VAL = torch.randint(VOCAB_SIZE, (40,), generator=GENERATOR).repeat(4)[:130]  # repeats itself outside of a block
TEXT = torch.cat((TRAIN, VAL))
TOKEN_CLASSES = torch.stack((torch.arange(VOCAB_SIZE), torch.arange(VOCAB_SIZE) == 3, torch.arange(VOCAB_SIZE) == 5))
KINDS: dict[str, dict[str, Any]] = {
    "gpt": {"prior": "kneser_ney", "cache_lm": True, "context_experts": True, "sliding_window": 5, "n_layer": 2},
    "without context experts": {"prior": "kneser_ney", "cache_lm": True},
    "n-grams only": {"prior": "kneser_ney"},
    "kneser_ney": {"kind": "kneser_ney"},
}


def new_model(kind: str, noise: float = 0.02) -> LanguageModel:
    torch.manual_seed(2)
    model = build_model(model_params(block_size=BLOCK_SIZE, **KINDS[kind]), VOCAB_SIZE)
    model.fit(TRAIN, TOKEN_CLASSES.long())
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn_like(weights), alpha=noise)
    return model.eval()


def chunks(size: int) -> Iterator[tuple[int, int]]:
    """Yield the first token of each chunk and the one after its last."""
    for begin in range(START, len(TEXT), size):
        yield begin, min(begin + size, len(TEXT))


def logits_of(model: LanguageModel, text: Tensor, chunk_size: int) -> Tensor:
    with torch.inference_mode():
        return torch.cat(list(model.adaptive_logits(text, START, chunk_size)), dim=1)[0]


@pytest.mark.parametrize("order", [2, 3, 6])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_n_grams_are_those_of_a_model_fitted_to_all_text_before_the_chunk(order, size):
    params = model_params(kind="kneser_ney", ngram_order=order)
    logits = logits_of(KneserNey(params, VOCAB_SIZE), TEXT, size)
    for begin, end in chunks(size):
        fitted = KneserNey(params, VOCAB_SIZE)
        fitted.fit(TEXT[:begin])
        expected = fitted(TEXT[None, : end - 1])[0, begin - 1 :]
        assert_close(logits[begin - START : end - START], expected)


@pytest.mark.parametrize("order", [2, 6, 9])
@pytest.mark.parametrize("start", [1, 2, 5])
def test_a_training_text_may_be_shorter_than_an_n_gram(order, start):
    params = model_params(kind="kneser_ney", ngram_order=order)
    text = TEXT[: start + 3]
    (logits,) = KneserNey(params, VOCAB_SIZE).adaptive_logits(text, start, 100)
    fitted = KneserNey(params, VOCAB_SIZE)
    fitted.fit(text[:start])
    assert_close(logits[0], fitted(text[None, :-1])[0, start - 1 :])


@pytest.mark.parametrize("cache_lm", [True, False])
@pytest.mark.parametrize("size", [4, 30])
def test_other_experts_use_all_text_before_each_token(cache_lm, size):
    params = model_params(block_size=BLOCK_SIZE, prior="kneser_ney", cache_lm=cache_lm, context_experts=True)
    token_classes = TOKEN_CLASSES.long()
    experts = AdaptiveExperts(params, VOCAB_SIZE, TEXT, START, token_classes)
    index = ContextIndex(VOCAB_SIZE)  # empty: all occurrences are in the window, which is the whole text
    index.token_classes = token_classes
    for begin, end in chunks(size):
        found = experts.predict_and_read(begin, end)
        fitted = KneserNey(params, VOCAB_SIZE)
        fitted.fit(TEXT[:begin])
        window = TEXT[None, max(START - 1, end - 1 - max(BLOCK_SIZE, end - begin)) : end - 1]
        rows = fitted.find_rows(TEXT[None, : end - 1])[:, begin - 1 :]
        in_window = expert_probs(fitted.table, rows, window, cache_lm)
        assert_close(found[:, :, :-2].exp(), in_window)
        below = torch.zeros(1, end - 1, VOCAB_SIZE)
        below[:, begin - 1 :] = in_window[:, :, -1]
        assert_close(found[:, :, -2:], index.log_probs(TEXT[None, : end - 1], below)[:, begin - 1 :])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, 32])
def test_no_prediction_depends_on_a_later_token(kind, size):
    model = new_model(kind)
    logits = logits_of(model, TEXT, size)
    for first_changed in (START, START + 40, len(TEXT) - 1):
        changed = TEXT.clone()
        changed[first_changed:] = (changed[first_changed:] + 3) % VOCAB_SIZE
        found = logits_of(model, changed, size)
        assert torch.equal(found[: first_changed - START + 1], logits[: first_changed - START + 1])
        assert not torch.equal(found[-1], logits[-1]) or first_changed == len(TEXT) - 1


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_change_nothing_but_the_counts_if_nothing_is_learned(kind, monkeypatch):
    model = new_model(kind)
    monkeypatch.setattr("stages.models.dynamic_evaluation.LEARNING_RATES", (0.0,))
    read = AdaptiveCounts.read
    monkeypatch.setattr(AdaptiveCounts, "read", lambda counts, _: None if counts.end else read(counts, START))
    at_once = logits_of(model, TEXT[: START + BLOCK_SIZE], BLOCK_SIZE)
    for size in (1, 3, BLOCK_SIZE - 1):
        assert_close(logits_of(model, TEXT[: START + BLOCK_SIZE], size), at_once)


@pytest.mark.parametrize("kind", ["gpt", "without context experts"])
def test_the_network_may_compute_several_chunks_at_once(kind, monkeypatch):
    model = new_model(kind)
    several = logits_of(model, TEXT, 2)
    monkeypatch.setattr("stages.models.gpt.MAX_LOG_PROBS", 1)
    assert_close(logits_of(model, TEXT, 2), several)


def test_the_network_is_that_of_the_model():
    model = new_model("gpt")
    assert isinstance(model, GPT)
    (logits,) = model.adaptive_logits(TEXT[: START + BLOCK_SIZE], START, BLOCK_SIZE)
    token_classes = TOKEN_CLASSES.long()
    log_probs = AdaptiveExperts(model.params, VOCAB_SIZE, TEXT, START, token_classes).predict_and_read(
        START, START + BLOCK_SIZE
    )
    model._expert_log_probs = lambda *_: log_probs  # type: ignore[method-assign]
    assert_close(logits, model(TEXT[None, START - 1 : START - 1 + BLOCK_SIZE]))


@pytest.mark.parametrize("kind", KINDS)
def test_losses_are_of_all_tokens_but_the_first(kind):
    model = new_model(kind)
    losses = list(adaptive_losses(model, TRAIN, VAL))
    log_probs = logits_of(model, TEXT, MIN_CHUNK).log_softmax(-1)
    assert_close(torch.cat(losses), -log_probs[range(len(VAL) - 1), VAL[1:]])
    assert [len(chunk) for chunk in losses] == [16] * 8 + [1]


@pytest.mark.parametrize(
    ("length", "vocab_size", "chunk_size"),
    [(100, 65, 16), (10_000, 65, 39), (1_000_000, 65, 512), (1_000_000, 1 << 20, 4)],
)
def test_a_text_is_divided_into_256_chunks_that_fit_in_memory(length, vocab_size, chunk_size):
    assert adaptive_chunk_size(length, vocab_size) == chunk_size


@pytest.mark.parametrize("kind", ["gpt", "kneser_ney"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_tokens_may_have_the_types_of_token_files(kind, dtype):
    model = new_model(kind)
    expected = torch.cat(list(adaptive_losses(model, TRAIN, VAL)))
    assert torch.equal(torch.cat(list(adaptive_losses(model, TRAIN.to(dtype), VAL.to(dtype)))), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_of_two_tokens_has_one_loss(kind):
    (losses,) = adaptive_losses(new_model(kind), TRAIN, VAL[:2])
    assert losses.shape == (1,)


def test_the_training_text_is_counted_as_far_as_memory_allows(monkeypatch, caplog):
    model = new_model("kneser_ney")
    per_token = adaptive_bytes_per_token(model.params.ngram_order, VOCAB_SIZE)
    monkeypatch.setattr("stages.models.ngram.ngram_memory.free_bytes", lambda: 100 * per_token)
    train = TRAIN.numpy().astype("uint8")
    sources = [TokenSource(0, 1.0), TokenSource(200, 1.0)]
    assert np.array_equal(countable_training_text(model, train[:60], sources[:1], 40), train[:60])
    assert not caplog.records
    part = countable_training_text(model, train, sources, 40)
    assert part.tolist() == subsample_training_text(train, sources, 60)[0].tolist()
    assert "the adaptive loss: only 60 of 300 tokens are counted, for lack of memory" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_counting_the_text_so_far_helps(kind):
    model = new_model(kind, noise=0.0)
    sliding = evaluate_loss(model, sliding_windows(VAL, BLOCK_SIZE, BLOCK_SIZE // 2, batch_size=2)).loss
    assert torch.cat(list(adaptive_losses(model, TRAIN, VAL))).mean() < sliding - 0.1
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert all(torch.equal(state[name], value) for name, value in new_model(kind, noise=0.0).state_dict().items())
