import torch

from stages.models.kneser_ney import Model
from stages.models.ngram.cross_fitting import CrossFitted
from stages.tokenizers.token_files import Source
from stages.train.batches import Batches, random_positions, weighted_positions
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


def test_sources_are_drawn_by_length_times_weight():
    generator = torch.Generator().manual_seed(1)
    sources = [Source(0, 1.0), Source(100, 3.0), Source(300, 1.0)]
    draws = 40_000
    starts = weighted_positions(1004, 4, draws, generator, sources)[:, 0]
    counts = torch.histc(starts.float(), 1000, 0, 1000).double() / draws  # window starts 0 … 999
    wanted = torch.tensor([1.0] * 100 + [3.0] * 200 + [1.0] * 700, dtype=torch.float64) / 1400
    assert counts.sum() == 1  # every window begins where one may
    assert ((counts - wanted) ** 2 / wanted).sum() * draws < 1150  # chi squared with 999 degrees of freedom


def test_equal_weights_draw_as_if_there_were_none():
    text = torch.arange(200, dtype=torch.uint8)
    plain = Batches(text, 8, 4, seed=1).draw()
    assert torch.equal(
        Batches(text, 8, 4, seed=1, sources=[Source(0, 2.0), Source(50, 2.0)]).draw().inputs, plain.inputs
    )
    heavy = Batches(text, 8, 400, seed=1, sources=[Source(0, 1e-9), Source(150, 1.0)]).draw()
    assert heavy.inputs.min() >= 150


def test_a_source_without_room_for_a_window_is_never_drawn():
    starts = weighted_positions(20, 8, 1000, torch.Generator().manual_seed(1), [Source(0, 1.0), Source(15, 100.0)])[
        :, 0
    ]
    assert starts.max() == 11
