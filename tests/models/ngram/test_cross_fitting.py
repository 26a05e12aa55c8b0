from collections import Counter

import numpy as np
import pytest
import torch

from stages.models.kneser_ney import KneserNey
from stages.models.ngram.cross_fitting import CrossFittedExperts
from tests.conftest import model_params
from tests.models.ngram.reference import from_counts


def counts_without(ids: list[int], fold: list[int], left_out: int, order: int) -> dict[int, Counter[tuple[int, ...]]]:
    """Count every n-gram whose last character does not lie in the fold."""
    return {
        length: Counter(
            tuple(ids[end - length + 1 : end + 1]) for end in range(length - 1, len(ids)) if fold[end] != left_out
        )
        for length in range(1, order + 1)
    }


@pytest.mark.parametrize("folds", [2, 5])
def test_every_position_is_predicted_by_counts_of_the_other_folds(tokens, tokenizer, folds):
    ids = tokens[:600].long()
    model = KneserNey(model_params(kind="kneser_ney"), len(tokenizer))
    prior = CrossFittedExperts(model.count(ids), len(tokenizer), folds, cache_lm=False)
    fold = [min(position * folds // len(ids), folds - 1) for position in range(len(ids))]
    references = [
        from_counts(counts_without(ids.tolist(), fold, left_out, 4), len(tokenizer), 4) for left_out in range(folds)
    ]
    start, length = 3, 590
    positions = torch.arange(start, start + length)[None]
    ours = prior(ids[positions], positions).exp()[0, :, 0].numpy()
    for at in range(length):
        position = start + at
        context = tuple(ids[max(start, position - 2) : position + 1].tolist())  # a window hides what is before it
        np.testing.assert_allclose(ours[at], references[fold[position + 1]](context), atol=1e-6)


def test_the_prior_of_training_text_is_less_sure_than_counts_that_saw_it(tokens, tokenizer):
    model = KneserNey(model_params(kind="kneser_ney"), len(tokenizer))
    prior = CrossFittedExperts(model.count(tokens), len(tokenizer), 5, cache_lm=False)
    positions = torch.arange(2000)[None]
    ids, targets = tokens.long()[positions], tokens.long()[positions + 1]
    crossed = prior(ids, positions)[:, :, 0].gather(-1, targets[..., None]).mean()
    seen = model(ids).gather(-1, targets[..., None]).mean()
    assert crossed < seen


@pytest.mark.parametrize("length", range(1, 7))
def test_a_text_shorter_than_the_longest_n_grams_can_be_counted(length):
    ids = torch.arange(length) % 3
    model = KneserNey(model_params(kind="kneser_ney", ngram_order=5), 3)
    prior = CrossFittedExperts(model.count(ids), 3, 10, cache_lm=True)
    log_probs = prior(ids[None], torch.arange(length)[None])
    assert log_probs.exp().sum(-1).numpy() == pytest.approx(1, abs=1e-5)
