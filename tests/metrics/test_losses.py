import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from stages.metrics.losses import blockwise, measure, sliding, spread
from stages.models.base import LanguageModel, build
from tests.conftest import model_params

TEXT = torch.arange(23)


class Counts(LanguageModel):
    """Believes in the number of characters that it sees: what a window shows can be read off its loss."""

    def forward(self, ids: Tensor) -> Tensor:
        seen = torch.arange(1, ids.shape[1] + 1)
        return F.one_hot(seen, 64).float().mul(50).expand(len(ids), -1, -1)


def predicted(batches) -> list[tuple[int, int]]:
    """List the characters that count, with the number of characters seen before each."""
    found = []
    for batch in batches:
        for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
            assert inputs[1:] == targets[:-1]
            found += [(target, seen) for seen, target in enumerate(targets, 1) if seen > batch.first]
    return found


@pytest.mark.parametrize("length", [2, 5, 6, 7, 11, 23])
@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_blockwise_predicts_every_character_but_the_first_once(length, batch_size):
    found = predicted(blockwise(TEXT[:length], 5, batch_size))
    assert sorted(character for character, _ in found) == list(range(1, length))
    assert all(seen == (character - 1) % 5 + 1 for character, seen in found)  # nothing before the window


@pytest.mark.parametrize("length", [7, 8, 9, 10, 23])
@pytest.mark.parametrize("stride", [1, 2, 5, 6])
def test_sliding_predicts_every_character_once_with_enough_before_it(length, stride):
    found = predicted(sliding(TEXT[:length], 6, stride, 2))
    assert sorted(character for character, _ in found) == list(range(1, length))
    assert all(seen >= min(character, 6 - stride + 1) for character, seen in found)


def test_the_loss_is_the_mean_over_all_windows_whatever_their_lengths():
    model = build(model_params(kind="bigram", block_size=5), 23)
    ids = torch.randint(23, (13,), generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(model(ids[None, :-1])[0], ids[1:])
    measured = measure(model, blockwise(ids, 5, 2))
    assert measured.loss == pytest.approx(expected.item(), rel=1e-5)
    assert measured.accuracy == pytest.approx(float((model(ids[None, :-1])[0].argmax(-1) == ids[1:]).float().mean()))
    assert measured.counts.tolist() == [3, 3, 2, 2, 2]


def test_loss_by_position_belongs_to_its_position():
    model = Counts(model_params(block_size=4), 64)
    ids = torch.tensor([0, 1, 2, 3, 9, 1, 9, 3, 4])  # in windows of four: right at 1, 2, 3 and then at 1, 3, 4
    by_position = measure(model, blockwise(ids, 4, 8)).by_position
    assert (by_position > 1).tolist() == [False, True, False, True]


def test_measuring_leaves_a_model_as_it_was():
    model = build(model_params(kind="bigram"), 23)
    model.train()
    measure(model, blockwise(TEXT, 5, 2))
    assert model.training


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (3, 3), (100, 4)])
def test_spread_takes_windows_from_the_whole_text(count, expected):
    windows = spread(TEXT, 5, count)
    assert windows.inputs.shape == (expected, 5)
    assert windows.inputs[0, 0] == 0
    assert expected == 1 or windows.targets[-1, -1] == 22


def test_many_logits_are_worked_out_few_windows_at_a_time(monkeypatch):
    shapes = []

    class Watched(Counts):
        def forward(self, ids: Tensor) -> Tensor:
            shapes.append(tuple(ids.shape))
            return super().forward(ids)

    model = Watched(model_params(block_size=5), 64)
    at_once = measure(model, blockwise(TEXT, 5, 4))
    assert shapes == [(4, 5), (1, 2)]
    monkeypatch.setattr("stages.metrics.losses.MOST_LOGITS", 5 * 64 * 3)
    shapes.clear()
    in_parts = measure(model, blockwise(TEXT, 5, 4))
    assert shapes == [(3, 5), (1, 5), (1, 2)]
    assert in_parts.loss == pytest.approx(at_once.loss)
    assert torch.equal(in_parts.counts, at_once.counts)
