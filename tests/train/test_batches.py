import pytest
import torch

from stages.tokenizers.token_files import TokenSource
from stages.train.batches import BatchSampler, sample_positions, sample_weighted_positions


def test_targets_are_shifted_by_one_token():
    batch = BatchSampler(torch.arange(100, dtype=torch.uint8), 8, 4, seed=1).sample()
    assert batch.inputs.shape == (4, 8)
    assert torch.equal(batch.targets, batch.inputs + 1)
    assert torch.equal(batch.inputs, batch.inputs[:, :1] + torch.arange(8))


def test_windows_reach_both_ends_of_the_text_and_no_further():
    positions = sample_positions(10, 4, 2000, torch.Generator().manual_seed(1))
    assert set(positions[:, 0].tolist()) == set(range(6))  # the last window ends at 8, its target is 9


def test_the_seed_alone_decides_what_is_drawn():
    text = torch.arange(200, dtype=torch.uint8)
    first, second = BatchSampler(text, 8, 4, seed=1), BatchSampler(text, 8, 4, seed=1)
    torch.rand(7)  # the global generator has no effect
    assert torch.equal(first.sample().inputs, second.sample().inputs)
    assert not torch.equal(first.sample().inputs, BatchSampler(text, 8, 4, seed=2).sample().inputs)


def test_positions_say_where_the_inputs_are():
    text = torch.randint(50, (300,), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    batch = BatchSampler(text, 8, 4, seed=1).sample()
    assert torch.equal(text[batch.train_positions].long(), batch.inputs)
    assert torch.equal(text[batch.train_positions + 1].long(), batch.targets)


@pytest.mark.parametrize(("batch_size", "grad_accum_steps"), [(4, 3), (3, 4)])
def test_processes_share_the_windows_of_one(batch_size, grad_accum_steps):
    text = torch.arange(200, dtype=torch.uint8)
    alone = torch.cat([b.inputs for b in BatchSampler(text, 8, batch_size, seed=1).sample_step(grad_accum_steps)])
    shares = [
        torch.cat([b.inputs for b in BatchSampler(text, 8, batch_size, 1, rank, 2).sample_step(grad_accum_steps)])
        for rank in range(2)
    ]
    assert len(shares[0]) == len(shares[1]) == len(alone) / 2
    assert sorted(map(tuple, torch.cat(shares).tolist())) == sorted(map(tuple, alone.tolist()))


def test_sources_are_sampled_by_length_times_weight():
    generator = torch.Generator().manual_seed(1)
    sources = [TokenSource(0, 1.0), TokenSource(100, 3.0), TokenSource(300, 1.0)]
    draws = 40_000
    starts = sample_weighted_positions(1004, 4, draws, generator, sources)[:, 0]
    counts = torch.histc(starts.float(), 1000, 0, 1000).double() / draws  # window starts 0 … 999
    wanted = torch.tensor([1.0] * 100 + [3.0] * 200 + [1.0] * 700, dtype=torch.float64) / 1400
    assert counts.sum() == 1  # every window begins where one may
    assert ((counts - wanted) ** 2 / wanted).sum() * draws < 1150  # chi squared with 999 degrees of freedom


def test_equal_weights_sample_as_without_sources():
    text = torch.arange(200, dtype=torch.uint8)
    plain = BatchSampler(text, 8, 4, seed=1).sample()
    assert torch.equal(
        BatchSampler(text, 8, 4, seed=1, sources=[TokenSource(0, 2.0), TokenSource(50, 2.0)]).sample().inputs,
        plain.inputs,
    )
    heavy = BatchSampler(text, 8, 400, seed=1, sources=[TokenSource(0, 1e-9), TokenSource(150, 1.0)]).sample()
    assert heavy.inputs.min() >= 150


def test_a_source_at_the_end_without_room_for_a_window_is_in_the_last_one():
    sources = [TokenSource(0, 1.0), TokenSource(15, 9.0)]
    starts = sample_weighted_positions(20, 8, 1000, torch.Generator().manual_seed(1), sources)[:, 0]
    assert starts.max() == 11
    assert (starts == 11).double().mean() == pytest.approx(9 * 5 / (15 + 9 * 5) + 1 / 12 * 15 / 60, abs=0.04)
