import pytest
import torch

from stages.losses.windows import (
    blockwise_windows,
    evenly_spaced_windows,
    is_scored_in_blocks,
    sliding_windows,
    subsample,
)

TEXT = torch.arange(23)


def predicted(batches) -> list[tuple[int, int]]:
    """List the characters that count, with the number of characters seen before each."""
    found = []
    for batch in batches:
        for inputs, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
            assert inputs[1:] == targets[:-1]
            found += [(target, seen) for seen, target in enumerate(targets, 1) if seen > batch.first_scored]
    return found


@pytest.mark.parametrize("length", [2, 5, 6, 7, 11, 23])
@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_blockwise_predicts_every_character_but_the_first_once(length, batch_size):
    found = predicted(blockwise_windows(TEXT[:length], 5, batch_size))
    assert sorted(character for character, _ in found) == list(range(1, length))
    assert all(seen == (character - 1) % 5 + 1 for character, seen in found)  # nothing before the window


@pytest.mark.parametrize("length", [7, 8, 9, 10, 23])
@pytest.mark.parametrize("stride", [1, 2, 5, 6])
def test_sliding_predicts_every_character_once_with_enough_before_it(length, stride):
    found = predicted(sliding_windows(TEXT[:length], 6, stride, 2))
    assert sorted(character for character, _ in found) == list(range(1, length))
    assert all(seen >= min(character, 6 - stride + 1) for character, seen in found)


@pytest.mark.parametrize("length", [2, 5, 7, 8, 9, 13, 18, 19, 23])
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 6])
def test_windows_that_are_blocks_can_be_left_out(length, stride):
    text = TEXT[:length]
    in_blocks = is_scored_in_blocks(length, 6, stride)
    by_blocks = [pair for pair in predicted(blockwise_windows(text, 6, 2)) if in_blocks[pair[0] - 1]]
    others = predicted(sliding_windows(text, 6, stride, 2, skip_block_windows=True))
    assert sorted(by_blocks + others) == sorted(predicted(sliding_windows(text, 6, stride, 2)))
    assert length < 13 or 6 % stride or len(by_blocks) > 6


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (3, 3), (100, 4)])
def test_evenly_spaced_windows_cover_the_whole_text(count, expected):
    windows = evenly_spaced_windows(TEXT, 5, count)
    assert windows.inputs.shape == (expected, 5)
    assert windows.inputs[0, 0] == 0
    assert expected == 1 or windows.targets[-1, -1] == 22


def test_subsampling_takes_pieces_from_the_whole_text():
    tokens = torch.arange(1000)
    chosen = subsample(tokens, 160, 16)
    assert chosen.tolist() == [start + offset for start in range(0, 991, 66) for offset in range(10)]
    assert torch.equal(subsample(tokens, 1000, 16), tokens)
