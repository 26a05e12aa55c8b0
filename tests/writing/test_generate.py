import pytest
import torch

from stages.models.base import build
from stages.writing.generate import choose, generate
from tests.conftest import model_params


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_temperature_zero_takes_the_likeliest():
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])
    assert choose(logits, 0.0, 0, generator()).tolist() == [[1], [0]]


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.5, 0), (2.0, 2)])
def test_draws_follow_the_distribution(temperature, top_k):
    logits = torch.tensor([1.0, 0.0, -1.0])
    drawn = choose(logits.expand(20_000, 3), temperature, top_k, generator()).flatten()
    kept = logits if top_k == 0 else torch.tensor([1.0, 0.0, -torch.inf])
    expected = (kept / temperature).softmax(-1)
    torch.testing.assert_close(drawn.bincount(minlength=3) / 20_000, expected, atol=0.015, rtol=0)


def test_writes_past_the_block_and_as_often_as_asked():
    torch.manual_seed(1)
    model = build(model_params(block_size=8), 5).eval()
    ids = generate(model, torch.zeros(3, 2, dtype=torch.int64), 20, 1.0, 0, generator())
    assert ids.shape == (3, 20)
    assert len({tuple(row) for row in ids.tolist()}) == 3


def test_a_seed_gives_the_same_text():
    torch.manual_seed(1)
    model = build(model_params(kind="bigram"), 5).eval()
    prompt = torch.zeros(2, 1, dtype=torch.int64)
    first, second = (generate(model, prompt, 30, 1.0, 0, generator()) for _ in range(2))
    assert torch.equal(first, second)
