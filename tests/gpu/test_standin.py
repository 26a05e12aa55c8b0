"""The stand-in refuses what CUDA refuses, and counts what a GPU would be waited for."""

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from tests.gpu.standin import DEVICE, NONDETERMINISTIC, WAITS, documented_nondeterministic, on_standin


@pytest.fixture(autouse=True)
def _standin():
    with on_standin():
        yield


def test_it_knows_every_operation_that_the_installed_torch_refuses_in_deterministic_mode():
    assert documented_nondeterministic() == set(NONDETERMINISTIC)


def test_gradients_are_those_of_the_cpu():
    torch.manual_seed(1)
    layer, x = torch.nn.Linear(3, 2), torch.randn(4, 3)
    layer(x).square().sum().backward()
    expected = layer.weight.grad
    layer.zero_grad()
    layer.to(DEVICE)
    layer(x.to(DEVICE)).square().sum().backward()
    assert layer.weight.grad.device == DEVICE
    assert torch.equal(layer.weight.grad.cpu(), expected)


@pytest.mark.parametrize(
    "refused",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.cat((x, torch.ones(3))),
        lambda x: x.numpy(),
        lambda x: torch.bernoulli(x, generator=torch.Generator()),
        lambda _: torch.rand(3, device=DEVICE, generator=torch.Generator()),
        lambda x: x.to(torch.uint16) + 1,
        lambda x: x.to(torch.uint16)[x.long()],
        lambda x: x.to(torch.uint32).sort(),
    ],
)
def test_what_cuda_refuses(refused):
    with pytest.raises((RuntimeError, TypeError), match=r"device|uint|generator|numpy"):
        refused(torch.ones(3, device=DEVICE))


@pytest.mark.parametrize(
    "allowed",
    [lambda x: x + torch.tensor(1.0), lambda x: x[torch.tensor([0, 2])], lambda x: torch.ones(3).copy_(x)],
)
def test_what_cuda_allows(allowed):
    allowed(torch.ones(3, device=DEVICE))


@pytest.mark.parametrize(
    "refused",
    [
        lambda x: x.cumsum(0),
        lambda x: torch.bincount(x.long(), weights=x),
        lambda x: x.histc(3),
        lambda x: x.median(0),
        lambda x: x.clone().put_(torch.tensor([0], device=DEVICE), x[:1]),
        lambda x: torch.zeros_like(x).scatter_reduce(0, x.long(), x, "prod"),
    ],
)
def test_deterministic_mode_refuses_as_documented(refused):
    torch.use_deterministic_algorithms(False)
    refused(torch.ones(3, device=DEVICE))
    torch.use_deterministic_algorithms(True)
    with pytest.raises(RuntimeError, match="deterministic"):
        refused(torch.ones(3, device=DEVICE))


def test_deterministic_mode_allows_the_rest():
    torch.use_deterministic_algorithms(True)
    x = torch.ones(3, device=DEVICE)
    x.long().cumsum(0)
    torch.bincount(x.long())
    x.median()
    F.cross_entropy(x[None], torch.tensor([1], device=DEVICE))


@pytest.mark.parametrize(
    ("waits", "action"),
    [
        (1, lambda x: x.sum().item()),
        (1, lambda x: bool(x.sum())),
        (1, lambda x: x.tolist()),
        (1, lambda x: x.cpu()),
        (1, lambda x: x.nonzero()),
        (1, lambda x: x[x > 0]),
        (1, lambda x: torch.repeat_interleave(x.long())),
        (0, lambda x: torch.repeat_interleave(x, x.long(), output_size=3)),
        (1, lambda _: torch.ones(3).to(DEVICE)),
        (0, lambda _: torch.ones(3).to(DEVICE, non_blocking=True)),
        (1, lambda _: torch.tensor([1.0], device=DEVICE)),
        (1, lambda x: x.new_tensor([1.0])),
        (1, lambda x: x[torch.tensor([0, 1])]),
        (0, lambda x: x[torch.arange(2, device=DEVICE)]),
        (0, lambda x: torch.where(x > 0, 1.0, x).softmax(0)),
    ],
)
def test_it_counts_waits(waits, action):
    x = torch.ones(3, device=DEVICE)
    WAITS.clear()
    action(x)
    assert WAITS.total() == waits
