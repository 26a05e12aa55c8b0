import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.models.recent import STRENGTHS, with_recent


def obvious(ids: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """For each position and length, look at every earlier position of the window."""
    out = p.clone()
    for b in range(ids.shape[0]):
        row = ids[b].tolist()
        for t in range(len(row)):
            for length, strength in enumerate(STRENGTHS, start=2):
                if t < length - 1:
                    break
                counts = torch.zeros(p.shape[-1])
                for earlier in range(length - 1, t):
                    if row[earlier - length + 1 : earlier + 1] == row[t - length + 1 : t + 1]:
                        counts[row[earlier + 1]] += 1
                out[b, t] = (counts + strength * out[b, t]) / (counts.sum() + strength)
    return out


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 4), st.integers(0, 2**31))
def test_equals_the_obvious_count(batch: int, length: int, vocabulary_size: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocabulary_size, (batch, length), generator=generator)
    p = torch.rand(batch, length, vocabulary_size, generator=generator).softmax(-1)
    torch.testing.assert_close(with_recent(ids, p), obvious(ids, p))


def test_what_comes_later_changes_nothing_before():
    ids = torch.tensor([[0, 1, 2, 0, 1, 2, 0, 1]])
    p = torch.full((1, 8, 3), 1 / 3)
    changed = ids.clone()
    changed[0, 6] = 2
    torch.testing.assert_close(with_recent(ids, p)[:, :6], with_recent(changed, p)[:, :6])
    assert with_recent(ids, p)[0, 4].argmax() == 2  # "0 1" was followed by 2
