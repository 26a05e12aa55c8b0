import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.losses.adaptive import recounting_windows
from stages.losses.losses import evaluate_loss, token_losses
from stages.losses.windows import Windows, sliding_windows
from stages.models.base import LanguageModel, build_model
from tests.conftest import model_params

VOCAB_SIZE, BLOCK_SIZE, STRIDE = 7, 12, 6
GENERATOR = torch.Generator().manual_seed(1)
TRAIN = torch.randint(VOCAB_SIZE, (300,), generator=GENERATOR)
VAL = torch.randint(VOCAB_SIZE, (40,), generator=GENERATOR).repeat(4)[:130]  # repeats itself outside of a block
KINDS: dict[str, dict[str, Any]] = {
    "gpt": {"prior": "kneser_ney", "cache_lm": True, "context_experts": True},
    "without context experts": {"prior": "kneser_ney", "cache_lm": True},
    "kneser_ney": {"kind": "kneser_ney"},
    "bigram": {"kind": "bigram"},
    "without prior": {},
}


class Recorder(LanguageModel):
    """Records what it counts."""

    counted = TRAIN

    def recount(self, tokens: Tensor) -> None:
        self.counted = tokens


def new_model(kind: str) -> LanguageModel:
    torch.manual_seed(2)
    model = build_model(model_params(block_size=BLOCK_SIZE, **KINDS[kind]), VOCAB_SIZE)
    model.fit(TRAIN, torch.ones(3, VOCAB_SIZE, dtype=torch.int64))
    with torch.no_grad():
        for weights in model.parameters():
            weights.add_(torch.randn_like(weights), alpha=0.02)
    return model.eval()


def windows() -> list[Windows]:
    return list(sliding_windows(VAL, BLOCK_SIZE, STRIDE, batch_size=2))


@pytest.mark.parametrize(("pieces", "expected"), [(1, 1), (2, 2), (4, 4), (10, 6), (1000, 12)])
def test_all_text_before_a_piece_is_counted_and_nothing_that_is_still_to_be_predicted(pieces, expected):
    model = Recorder(model_params(), VOCAB_SIZE)
    predicted, counts = 1, []
    for batch in recounting_windows(model, TRAIN, VAL, windows(), pieces):
        seen = len(model.counted) - len(TRAIN)
        assert torch.equal(model.counted, torch.cat((TRAIN, VAL[:seen])))
        assert seen <= predicted < seen + max(len(VAL) / pieces, 2 * STRIDE) + BLOCK_SIZE
        predicted += batch.count
        counts.append(seen)
    assert predicted == len(VAL)
    assert len(set(counts)) == expected
    assert pieces < 1000 or counts[1:] == [seen + 1 for seen in (12, 24, 36, 48, 60, 72, 84, 96, 108, 120, 126)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_that_of_models_fitted_to_all_text_before(kind):
    model = new_model(kind)
    weights = dict(model.named_parameters())
    total, seen = 0.0, 1
    for batch in windows():
        fitted = new_model(kind)
        if seen > 1:
            fitted.fit(torch.cat((TRAIN, VAL[:seen])), torch.ones(3, VOCAB_SIZE, dtype=torch.int64))
        assert all(torch.equal(weights[name], weight) for name, weight in fitted.named_parameters())
        total += float(next(token_losses(fitted, [batch])).sum())
        seen += batch.count
    loss = evaluate_loss(model, recounting_windows(model, TRAIN, VAL, windows(), 1000)).loss
    assert loss == pytest.approx(total / (len(VAL) - 1), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_counting_the_text_so_far_helps_if_there_are_counts(kind):
    model = new_model(kind)
    sliding = evaluate_loss(copy.deepcopy(model), windows()).loss
    adaptive = evaluate_loss(model, recounting_windows(model, TRAIN, VAL, windows(), 1000)).loss
    if kind in ("bigram", "without prior"):
        assert adaptive == sliding
    else:
        assert adaptive < sliding - 0.1
