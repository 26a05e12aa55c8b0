import pytest
import torch

from stages.models.base import LanguageModel, build
from stages.writing.generate import choose, generate, uniform_numbers
from tests.conftest import model_params
from tests.import_graph import KINDS

SIZE = 7
MODELS = [{"kind": kind} for kind in KINDS] + [
    {"window": 4, "n_layer": 2},
    {"prior": "kneser_ney"},
    {"prior": "kneser_ney", "recent": True, "window": 3, "n_layer": 2},
]


def awake(**changes) -> LanguageModel:
    torch.manual_seed(1)
    model = build(model_params(block_size=12, **changes), SIZE)
    model.fit(torch.randint(SIZE, (300,)))
    for weight in model.parameters():
        weight.data.normal_(std=0.5)
    return model.eval()


def reread(model: LanguageModel, prompt: torch.Tensor, length: int, seeds: list[int]) -> torch.Tensor:
    """Write by reading everything again for each character."""
    ids, start = prompt, 0
    for luck in uniform_numbers(seeds, length).T:
        if ids.shape[1] - start > 12:
            start = ids.shape[1] - 6
        ids = torch.cat((ids, choose(model(ids[:, start:])[:, -1], 1.0, 0, luck)), dim=1)
    return ids[:, prompt.shape[1] :]


@pytest.mark.parametrize("changes", MODELS, ids=str)
def test_reading_each_character_once_writes_what_reading_all_again_writes(changes):
    model, prompt = awake(**changes), torch.tensor([[1, 2, 3], [3, 3, 0]])
    ids = generate(model, prompt, 40, 1.0, 0, [5, 6])  # past the block of 12, three times
    assert torch.equal(ids, reread(model, prompt, 40, [5, 6]))


def test_a_sample_does_not_depend_on_its_neighbours():
    model, prompt = awake(prior="kneser_ney", recent=True), torch.tensor([[1, 2, 3]])
    together = generate(model, prompt.expand(3, -1), 30, 1.0, 0, [7, 8, 9])
    assert torch.equal(together[1:2], generate(model, prompt, 30, 1.0, 0, [8]))
    assert len({tuple(row) for row in together.tolist()}) == 3


def test_a_prompt_longer_than_the_block_is_read_from_its_end():
    model, prompt = awake(), torch.arange(40)[None] % SIZE
    assert torch.equal(generate(model, prompt, 5, 0.0, 0, [1]), generate(model, prompt[:, -12:], 5, 0.0, 0, [1]))


def test_temperature_zero_takes_the_likeliest():
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 1.0]])
    assert choose(logits, 0.0, 0, torch.zeros(2)).tolist() == [[1], [0]]


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.5, 0), (2.0, 2), (1.0, 1), (1.0, 99)])
def test_draws_follow_the_distribution_exactly(temperature, top_k):
    logits = torch.tensor([1.0, 0.0, -1.0])
    luck = (torch.arange(30_000) + 0.5) / 30_000  # every part of the line from 0 to 1, equally often
    drawn = choose(logits.expand(30_000, 3), temperature, top_k, luck).flatten()
    best = logits.argsort(descending=True)[: top_k or None]
    kept = torch.full_like(logits, -torch.inf).scatter(0, best, logits[best])
    expected = (kept / temperature).softmax(-1)
    torch.testing.assert_close(drawn.bincount(minlength=3) / 30_000, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("luck", [0.0, 1.0 - 2**-24])
def test_the_ends_of_luck_are_characters_that_can_come(luck):
    logits = torch.tensor([[-torch.inf, 1.0, 0.0, -torch.inf]])
    assert choose(logits, 1.0, 0, torch.tensor([luck])).item() in (1, 2)
