import torch

from stages.models.kneser_ney import Model
from stages.training.batches import Batches, random_positions
from stages.training.crossfit import CrossFitted
from tests.conftest import model_params


def test_targets_are_one_character_on():
    batch = Batches(torch.arange(100, dtype=torch.uint8), 8, 4, seed=1).draw()
    assert batch.inputs.shape == (4, 8)
    assert torch.equal(batch.targets, batch.inputs + 1)
    assert torch.equal(batch.inputs, batch.inputs[:, :1] + torch.arange(8))


def test_windows_reach_both_ends_of_the_text_and_no_further():
    positions = random_positions(10, 4, 2000, torch.Generator().manual_seed(1))
    assert set(positions[:, 0].tolist()) == set(range(6))  # the last window ends at 8, its target is 9


def test_the_seed_alone_decides_what_is_drawn():
    text = torch.arange(200, dtype=torch.uint8)
    first, second = Batches(text, 8, 4, seed=1), Batches(text, 8, 4, seed=1)
    torch.rand(7)  # the global generator has no say
    assert torch.equal(first.draw().inputs, second.draw().inputs)
    assert not torch.equal(first.draw().inputs, Batches(text, 8, 4, seed=2).draw().inputs)


def test_a_prior_comes_with_the_batch(tokens, tokenizer):
    levels = Model(model_params(kind="kneser_ney"), len(tokenizer)).fit(tokens)
    batch = Batches(tokens, 8, 4, seed=1, prior=CrossFitted(levels, len(tokenizer), 3, recent=True)).draw()
    assert batch.log_prior is not None
    torch.testing.assert_close(batch.log_prior.exp().sum(-1), torch.ones(4, 8, 2))
