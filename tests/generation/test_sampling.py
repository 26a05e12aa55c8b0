import pytest
import torch
from torch import Tensor

from stages.generation.sampling import Choice

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0])
CHOICES = [
    Choice(),
    Choice(temperature=0.5),
    Choice(temperature=3.0),
    Choice(top_k=1),
    Choice(top_k=3),
    Choice(top_k=99),
    Choice(top_p=0.5),
    Choice(top_p=0.9),
    Choice(min_p=0.2),
    Choice(min_p=1.0),
    Choice(temperature=2.0, top_k=4, top_p=0.8, min_p=0.1),
    Choice(temperature=0.0),
]


def expected(choice: Choice) -> Tensor:
    """Work the distribution out with plain Python, character by character."""
    if choice.temperature == 0:
        return torch.eye(5, dtype=torch.float64)[0]
    weights = [float((each.double() / choice.temperature).exp()) for each in LOGITS]  # the likeliest come first

    def share() -> list[float]:
        return [weight / sum(weights) for weight in weights]

    if choice.top_k:
        weights = [weight if place < choice.top_k else 0.0 for place, weight in enumerate(weights)]
    p = share()
    weights = [p[place] if sum(p[:place]) < choice.top_p else 0.0 for place in range(5)]
    p = share()
    weights = [each if each >= choice.min_p * max(p) else 0.0 for each in p]
    return torch.tensor(share(), dtype=torch.float64)


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_distributions_are_those_of_the_definitions(choice):
    torch.testing.assert_close(choice.distribution(LOGITS[None])[0], expected(choice))


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_draws_follow_the_distribution_exactly(choice):
    luck = (torch.arange(30_000) + 0.5) / 30_000  # every part of the line from 0 to 1, equally often
    drawn = choice.pick(LOGITS.expand(30_000, 5), luck).flatten()
    torch.testing.assert_close(drawn.bincount(minlength=5) / 30_000, expected(choice).float(), atol=1e-4, rtol=0)


def test_random_draws_pass_a_chi_square_test():
    choice, count = Choice(temperature=1.5, top_k=4), 50_000
    luck = torch.rand(count, generator=torch.Generator().manual_seed(1))
    drawn = choice.pick(LOGITS.expand(count, 5), luck).flatten().bincount(minlength=5)[:4]
    wanted = expected(choice)[:4] * count
    assert float(((drawn - wanted) ** 2 / wanted).sum()) < 16.3  # three degrees of freedom, one in a thousand


@pytest.mark.parametrize("luck", [0.0, 1.0 - 2**-24])
def test_the_ends_of_luck_are_characters_that_can_come(luck):
    logits = torch.tensor([[-torch.inf, 1.0, 0.0, -torch.inf]])
    assert Choice().pick(logits, torch.tensor([luck])).item() in (1, 2)
