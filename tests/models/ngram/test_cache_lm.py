import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.models.kneser_ney import KneserNey
from stages.models.ngram.cache_lm import STRENGTHS, WEAK_STRENGTHS, apply_cache_lm, find_context_matches
from stages.models.ngram.mixture import expert_log_probs
from tests.conftest import model_params


def naive_cache_lm(ids: Tensor, p: Tensor, strengths: tuple[float, ...]) -> Tensor:
    """For each position and length, look at every earlier position of the window."""
    out = p.clone()
    for b in range(ids.shape[0]):
        row = ids[b].tolist()
        for t in range(len(row)):
            for length, strength in enumerate(strengths, start=2):
                if t < length - 1:
                    break
                counts = torch.zeros(p.shape[-1])
                for earlier in range(length - 1, t):
                    if row[earlier - length + 1 : earlier + 1] == row[t - length + 1 : t + 1]:
                        counts[row[earlier + 1]] += 1
                out[b, t] = (counts + strength * out[b, t]) / (counts.sum() + strength)
    return out


def cache_lm_probs(ids: Tensor, p: Tensor, strengths: tuple[float, ...]) -> Tensor:
    return apply_cache_lm(find_context_matches(ids, len(STRENGTHS)), p, strengths)


@pytest.mark.parametrize("strengths", [STRENGTHS, (1.0, 7.0), (1.0,)])
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**31))
def test_equals_the_obvious_count(strengths, batch: int, length: int, vocab_size: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab_size, (batch, length), generator=generator)
    p = torch.rand(batch, length, vocab_size, generator=generator).softmax(-1)
    torch.testing.assert_close(cache_lm_probs(ids, p, strengths), naive_cache_lm(ids, p, strengths))


def test_what_comes_later_changes_nothing_before():
    ids = torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1]])
    p = torch.full((1, 8, 3), 1 / 3)
    changed = ids.clone()
    changed[0, 6] = 2
    torch.testing.assert_close(cache_lm_probs(ids, p, STRENGTHS)[:, :6], cache_lm_probs(changed, p, STRENGTHS)[:, :6])
    assert cache_lm_probs(ids, p, STRENGTHS)[0, 4].argmax() == 2  # "0 1" was followed by 2


def test_the_experts_are_the_ngram_model_and_two_cache_lms(tokens, tokenizer):
    ids = tokens.long()[None, 1000:1060]
    model = KneserNey(model_params(kind="kneser_ney"), len(tokenizer))
    model.fit(tokens)
    experts = expert_log_probs(model.table, model.find_rows(ids), ids, cache_lm=True).exp()
    probs = expert_log_probs(model.table, model.find_rows(ids), ids, cache_lm=False).exp()
    assert torch.equal(experts[:, :, :1], probs)
    bigram_rows = model.find_rows(ids)
    bigram_rows[:, :, 2:] = 0
    expected = naive_cache_lm(ids, model.table(bigram_rows[0])[None], STRENGTHS)
    torch.testing.assert_close(experts[:, :, 1], expected)
    torch.testing.assert_close(experts[:, :, 2], naive_cache_lm(ids, probs[:, :, 0], WEAK_STRENGTHS))
