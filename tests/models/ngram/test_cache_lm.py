import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from stages.models.kneser_ney import Model
from stages.models.ngram.cache_lm import STRENGTHS, Agreements, with_recent
from stages.models.ngram.mixture import opinions
from tests.conftest import model_params


def obvious(ids: Tensor, p: Tensor, strengths: tuple[float, ...]) -> Tensor:
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


def mixed(ids: Tensor, p: Tensor, strengths: tuple[float, ...]) -> Tensor:
    return with_recent(Agreements.of(ids, len(STRENGTHS)), p, strengths)


@pytest.mark.parametrize("strengths", [STRENGTHS, (1.0, 7.0), (1.0,)])
@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**31))
def test_equals_the_obvious_count(strengths, batch: int, length: int, vocabulary_size: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocabulary_size, (batch, length), generator=generator)
    p = torch.rand(batch, length, vocabulary_size, generator=generator).softmax(-1)
    torch.testing.assert_close(mixed(ids, p, strengths), obvious(ids, p, strengths))


def test_what_comes_later_changes_nothing_before():
    ids = torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1]])
    p = torch.full((1, 8, 3), 1 / 3)
    changed = ids.clone()
    changed[0, 6] = 2
    torch.testing.assert_close(mixed(ids, p, STRENGTHS)[:, :6], mixed(changed, p, STRENGTHS)[:, :6])
    assert mixed(ids, p, STRENGTHS)[0, 4].argmax() == 2  # "0 1" was followed by 2


def test_experts_are_what_they_say(tokens, tokenizer):
    ids = tokens.long()[None, 1000:1060]
    whole = Model(model_params(kind="kneser_ney"), len(tokenizer))
    whole.fit(tokens)
    heard = opinions(whole.rows, whole.find(ids), ids, recent=True).exp()
    p = opinions(whole.rows, whole.find(ids), ids, recent=False).exp()
    assert torch.equal(heard[:, :, :1], p)
    shallow = whole.find(ids)
    shallow[:, :, 2:] = 0
    torch.testing.assert_close(heard[:, :, 1], obvious(ids, whole.rows(shallow[0])[None], STRENGTHS))
