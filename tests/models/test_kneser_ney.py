import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import blockwise_windows
from stages.models.kneser_ney import KneserNey
from stages.tokenizers.char import CharTokenizer
from tests.conftest import MIRROR, model_params
from tests.models.ngram.reference import kneser_ney


def fitted(ids, vocab_size: int, **changes) -> KneserNey:
    model = KneserNey(model_params(kind="kneser_ney", **changes), vocab_size)
    model.fit(torch.as_tensor(ids))
    return model


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=80), st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_distributions_equal_the_obvious_reference_on_seen_and_unseen_contexts(ids: list[int], window: list[int]):
    ours = fitted(ids, 5)(torch.tensor([window])).exp()[0].numpy()
    reference = kneser_ney([ids], 5, 4)
    theirs = [reference(tuple(window[: length + 1])) for length in range(len(window))]
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("dense_entries", [0, 100, 1 << 20])
def test_dense_and_sparse_rows_give_the_same(monkeypatch, tokens, tokenizer, dense_entries):
    monkeypatch.setattr("stages.models.ngram.smoothing.MAX_DENSE_ENTRIES", dense_entries)
    ids = tokens.long()
    p = fitted(ids, len(tokenizer))(ids[None, :200]).exp()
    reference = kneser_ney([ids.tolist()], len(tokenizer), 4)
    theirs = [reference(tuple(ids[max(0, end - 3) : end].tolist())) for end in range(1, 201)]
    np.testing.assert_allclose(p[0].numpy(), theirs, atol=1e-6)


def test_distributions_sum_to_one_on_any_text(tokens, tokenizer):
    noise = torch.randint(len(tokenizer), (3, 50), generator=torch.Generator().manual_seed(1))
    p = fitted(tokens, len(tokenizer))(noise).exp()
    torch.testing.assert_close(p.sum(-1), torch.ones(3, 50))
    assert (p > 0).all()


def test_a_large_vocabulary_does_not_overflow():
    ids = torch.arange(6000) * 7919 % 50_000  # 50,000^7 is far beyond 64 bits
    p = fitted(ids, 50_000, ngram_order=7)(ids[None, :10]).exp()
    assert p[0, 6].argmax() == ids[7]


def test_context_starts_at_the_window(tokens, tokenizer):
    model = fitted(tokens, len(tokenizer))
    ids = tokens.long()[None, :40]
    alone = model(ids[:, 10:]).exp()
    inside = model(ids).exp()[:, 10:]
    assert not torch.allclose(alone[:, 0], inside[:, 0])  # three characters of context against one
    torch.testing.assert_close(alone[:, 2:], inside[:, 2:])  # order 4 sees three characters


@pytest.mark.skipif(not MIRROR.exists(), reason="tinyshakespeare is not in FOLIO_MIRROR: its losses were not measured")
def test_the_losses_on_tinyshakespeare_are_those_that_are_known():
    text = MIRROR.read_text()
    tokenizer = CharTokenizer.from_text(text)
    ids = torch.from_numpy(tokenizer.encode(text))
    train, val = ids[:1003854], ids[1003854:]
    for block_size, known in ((256, 1.5292), (2048, 1.5181)):
        model = fitted(train, len(tokenizer), ngram_order=7, block_size=block_size)
        assert evaluate_loss(model, blockwise_windows(val, block_size, 64)).loss == pytest.approx(known, abs=0.001)
    p = model(val.long()[None, :-1])[0]  # one window: contexts run on through the whole text
    assert -float(p.gather(-1, val.long()[1:, None]).mean()) == pytest.approx(1.5165, abs=0.001)
