import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.models.kneser_ney import KneserNey
from stages.models.ngram.cache_lm import BIGRAM_STRENGTHS, apply_cache_lm, ngram_strengths
from stages.models.ngram.ngram_experts import expert_log_probs
from stages.models.ngram.window_matches import find_context_matches
from tests.conftest import model_params


def naive_cache_lm(ids: Tensor, p: Tensor, strengths: Tensor) -> Tensor:
    """For each position and length, look at every earlier position of the window."""
    out = p.clone()
    strengths = strengths.expand(*ids.shape, -1)
    for b in range(ids.shape[0]):
        row = ids[b].tolist()
        for t in range(len(row)):
            for length, strength in enumerate(strengths[b, t], start=2):
                if t < length - 1:
                    break
                counts = torch.zeros(p.shape[-1])
                for earlier in range(length - 1, t):
                    if row[earlier - length + 1 : earlier + 1] == row[t - length + 1 : t + 1]:
                        counts[row[earlier + 1]] += 1
                out[b, t] = (counts + strength * out[b, t]) / (counts.sum() + strength)
    return out


def cache_lm_probs(ids: Tensor, p: Tensor, strengths: Tensor) -> Tensor:
    return apply_cache_lm(find_context_matches(ids, 6, ids.shape[1]), p, strengths)


@pytest.mark.parametrize("lengths", [6, 2, 1])
@pytest.mark.parametrize("everywhere_equal", [True, False])
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**31))
def test_equals_the_obvious_count(lengths, everywhere_equal, batch: int, length: int, vocab_size: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab_size, (batch, length), generator=generator)
    p = torch.rand(batch, length, vocab_size, generator=generator).softmax(-1)
    size = (lengths,) if everywhere_equal else (batch, length, lengths)
    strengths = torch.rand(size, generator=generator) * 10 + 0.1
    torch.testing.assert_close(cache_lm_probs(ids, p, strengths), naive_cache_lm(ids, p, strengths))


def test_what_comes_later_changes_nothing_before():
    ids = torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1]])
    p = torch.full((1, 8, 3), 1 / 3)
    changed = ids.clone()
    changed[0, 6] = 2
    strengths = torch.tensor(BIGRAM_STRENGTHS)
    torch.testing.assert_close(cache_lm_probs(ids, p, strengths)[:, :6], cache_lm_probs(changed, p, strengths)[:, :6])
    assert cache_lm_probs(ids, p, strengths)[0, 4].argmax() == 2  # "0 1" was followed by 2


def test_strengths_are_three_more_than_three_times_the_counts():
    totals = torch.tensor([[1000.0, 90.0, 12.0, 4.0, 0.0]])  # after contexts of 0 … 4 tokens, at order 5
    strengths = ngram_strengths(totals, 6)
    assert strengths.tolist() == [[39.0, 15.0, 3.0, 3.0, 3.0, 3.0]]  # for contexts of 2 … 7 tokens
    assert ngram_strengths(totals, 2).tolist() == [[39.0, 15.0]]


@pytest.mark.parametrize("order", [2, 3, 7, 10, 16])
def test_the_experts_are_the_ngram_model_and_two_cache_lms(tokens, tokenizer, order):
    ids = tokens.long()[None, 1000:1060]
    model = KneserNey(model_params(kind="kneser_ney", ngram_order=order), len(tokenizer))
    model.fit(tokens)
    rows = model.find_rows(ids)
    experts = expert_log_probs(model.table, rows, ids, cache_lm=True).exp()
    probs = expert_log_probs(model.table, rows, ids, cache_lm=False).exp()
    assert torch.equal(experts[:, :, :1], probs)
    bigram_rows = rows.clone()
    bigram_rows[:, :, 2:] = 0
    bigram_probs = model.table(bigram_rows[0])[None]
    expected = naive_cache_lm(ids, bigram_probs, torch.tensor(BIGRAM_STRENGTHS))
    torch.testing.assert_close(experts[:, :, 1], expected)
    strengths = ngram_strengths(model.table.totals[rows], max(6, order - 1))
    torch.testing.assert_close(experts[:, :, 2], naive_cache_lm(ids, probs[:, :, 0], strengths))


def test_the_totals_of_a_table_are_the_counts_after_each_context():
    text = torch.tensor([0, 1, 0, 1, 2, 0, 1, 0])
    model = KneserNey(model_params(kind="kneser_ney", ngram_order=3), 3)
    model.fit(text)
    rows = model.find_rows(text[None, -2:])[0, -1]  # after "1 0"
    # Below the highest order, a count is the number of different tokens before: of 7 bigrams, "0 1", "1 0", "1 2" and
    # "2 0" differ; after "0", "1" was preceded by nothing, "1" and "2".
    assert model.table.totals[rows].tolist() == [4.0, 2.0, 1.0]
