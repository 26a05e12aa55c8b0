import pytest
import torch
from torch import Tensor

from stages.core.errors import ParameterError
from stages.core.params import check_section
from stages.generation.params import SamplingParams
from stages.generation.sampling import sample_token, token_distribution

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, -3.0])
CASES = [
    SamplingParams(),
    SamplingParams(temperature=0.5),
    SamplingParams(temperature=3.0),
    SamplingParams(top_k=1),
    SamplingParams(top_k=3),
    SamplingParams(top_k=99),
    SamplingParams(top_p=0.5),
    SamplingParams(top_p=0.9),
    SamplingParams(min_p=0.2),
    SamplingParams(min_p=1.0),
    SamplingParams(temperature=2.0, top_k=4, top_p=0.8, min_p=0.1),
    SamplingParams(temperature=0.0),
]


def expected_distribution(sampling: SamplingParams) -> Tensor:
    """Return the distribution computed in plain Python, token by token."""
    if sampling.temperature == 0:
        return torch.eye(5, dtype=torch.float64)[0]
    weights = [float((logit.double() / sampling.temperature).exp()) for logit in LOGITS]  # the likeliest come first

    def share() -> list[float]:
        return [weight / sum(weights) for weight in weights]

    if sampling.top_k:
        weights = [weight if place < sampling.top_k else 0.0 for place, weight in enumerate(weights)]
    p = share()
    weights = [p[place] if sum(p[:place]) < sampling.top_p else 0.0 for place in range(5)]
    p = share()
    weights = [prob if prob >= sampling.min_p * max(p) else 0.0 for prob in p]
    return torch.tensor(share(), dtype=torch.float64)


@pytest.mark.parametrize("sampling", CASES, ids=str)
def test_distributions_are_those_of_the_definitions(sampling):
    torch.testing.assert_close(token_distribution(LOGITS[None], sampling)[0], expected_distribution(sampling))


@pytest.mark.parametrize("sampling", CASES, ids=str)
def test_draws_follow_the_distribution_exactly(sampling):
    uniforms = (torch.arange(30_000) + 0.5) / 30_000  # every part of the line from 0 to 1, equally often
    drawn = sample_token(LOGITS.expand(30_000, 5), uniforms, sampling).flatten()
    torch.testing.assert_close(
        drawn.bincount(minlength=5) / 30_000, expected_distribution(sampling).float(), atol=1e-4, rtol=0
    )


def test_random_draws_pass_a_chi_square_test():
    sampling, count = SamplingParams(temperature=1.5, top_k=4), 50_000
    uniforms = torch.rand(count, generator=torch.Generator().manual_seed(1))
    drawn = sample_token(LOGITS.expand(count, 5), uniforms, sampling).flatten().bincount(minlength=5)[:4]
    wanted = expected_distribution(sampling)[:4] * count
    assert float(((drawn - wanted) ** 2 / wanted).sum()) < 16.3  # three degrees of freedom, one in a thousand


@pytest.mark.parametrize("uniforms", [0.0, 1.0 - 2**-24])
def test_the_smallest_and_largest_uniforms_select_possible_tokens(uniforms):
    logits = torch.tensor([[-torch.inf, 1.0, 0.0, -torch.inf]])
    assert sample_token(logits, torch.tensor([uniforms]), SamplingParams()).item() in (1, 2)


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": -1.0}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"top_k": -1},
        {"top_k": 1.5}, {"top_p": 0.0}, {"top_p": 1.5}, {"top_p": float("nan")}, {"min_p": -0.1}, {"min_p": 2.0},
    ],
)  # fmt: skip
def test_values_outside_their_range_are_named(values):
    ((name, value),) = values.items()
    with pytest.raises(ParameterError, match=rf"^generate\.{name} is {value!r} \(\w+\): it must be"):
        check_section(values, SamplingParams, "generate")


def test_the_smallest_temperature_selects_the_most_likely_token():
    assert token_distribution(LOGITS, SamplingParams(temperature=5e-324)).tolist() == [1, 0, 0, 0, 0]
