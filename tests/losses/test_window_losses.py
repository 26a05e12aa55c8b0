import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from stages.losses.window_losses import evaluate_loss, token_losses
from stages.losses.windows import blockwise_windows
from stages.models.base import LanguageModel, build_model
from tests.conftest import model_params

TEXT = torch.arange(23)


class Counts(LanguageModel):
    """Predicts the number of tokens of context, so that its loss shows what a window contains."""

    def forward(self, ids: Tensor, **_: object) -> Tensor:
        seen = torch.arange(1, ids.shape[1] + 1)
        return F.one_hot(seen, 64).float().mul(50).expand(len(ids), -1, -1)


def test_the_loss_is_the_mean_over_all_windows_whatever_their_lengths():
    model = build_model(model_params(kind="bigram", block_size=5), 23)
    ids = torch.randint(23, (13,), generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(model(ids[None, :-1])[0], ids[1:])
    measured = evaluate_loss(model, blockwise_windows(ids, 5, 2))
    assert measured.loss == pytest.approx(expected.item(), rel=1e-5)
    assert measured.accuracy == pytest.approx(float((model(ids[None, :-1])[0].argmax(-1) == ids[1:]).float().mean()))
    assert measured.num_scored.tolist() == [3, 3, 2, 2, 2]


def test_loss_by_position_belongs_to_its_position():
    model = Counts(model_params(block_size=4), 64)
    ids = torch.tensor([0, 1, 2, 3, 9, 1, 9, 3, 4])  # in windows of four: right at 1, 2, 3 and then at 1, 3, 4
    by_position = evaluate_loss(model, blockwise_windows(ids, 4, 8)).loss_by_position
    assert (by_position > 1).tolist() == [False, True, False, True]


def test_measuring_leaves_a_model_as_it_was():
    model = build_model(model_params(kind="bigram"), 23)
    model.train()
    evaluate_loss(model, blockwise_windows(TEXT, 5, 2))
    assert model.training


def test_many_logits_are_computed_a_few_windows_at_a_time(monkeypatch):
    shapes = []

    class Watched(Counts):
        def forward(self, ids: Tensor, **_: object) -> Tensor:
            shapes.append(tuple(ids.shape))
            return super().forward(ids)

    model = Watched(model_params(block_size=5), 64)
    at_once = evaluate_loss(model, blockwise_windows(TEXT, 5, 4))
    assert shapes == [(4, 5), (1, 2)]
    monkeypatch.setattr("stages.losses.window_losses.MAX_LOGITS", 5 * 64 * 3)
    shapes.clear()
    in_parts = evaluate_loss(model, blockwise_windows(TEXT, 5, 4))
    assert shapes == [(3, 5), (1, 5), (1, 2)]
    assert in_parts.loss == pytest.approx(at_once.loss)
    assert torch.equal(in_parts.num_scored, at_once.num_scored)


def test_token_losses_are_those_of_the_counted_positions():
    model = build_model(model_params(kind="bigram", block_size=5), 23).eval()
    ids = torch.randint(23, (13,), generator=torch.Generator().manual_seed(1))
    losses = torch.cat([part.flatten() for part in token_losses(model, blockwise_windows(ids, 5, 2))])
    expected = F.cross_entropy(model(ids[None, :-1])[0], ids[1:], reduction="none")
    torch.testing.assert_close(losses, expected)


def test_calibration_compares_confidence_with_accuracy():
    class Confident(LanguageModel):
        """Gives token 1 a probability of 0.7 and token 0 one of 0.3."""

        def forward(self, ids: Tensor, **_: object) -> Tensor:
            return torch.tensor([0.3, 0.7]).log().expand(*ids.shape, 2)

    ids = torch.tensor([0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1])  # 8 of 10 predictions are right
    calibration = evaluate_loss(Confident(model_params(block_size=5), 2), blockwise_windows(ids, 5, 2)).calibration
    assert calibration.error == pytest.approx(0.1, abs=1e-6)
    assert calibration.counts.tolist() == [10.0 if index == 14 else 0.0 for index in range(20)]  # 0.70 … 0.75
