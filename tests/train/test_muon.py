from copy import deepcopy

import pytest
import torch
from torch import nn

from stages.train.muon import Muon, orthogonalize


def test_orthogonalize_brings_singular_values_near_one():
    matrices = torch.randn(3, 24, 16, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalize(matrices))
    assert values.min() > 0.5
    assert values.max() < 1.3


@pytest.mark.parametrize("shape", [(16, 16), (32, 8), (8, 32)])
def test_updates_equal_those_of_torchs_muon(shape):
    torch.manual_seed(1)
    ours, theirs = nn.Parameter(torch.randn(shape)), nn.Parameter(torch.zeros(shape))
    theirs.data.copy_(ours.data)
    mine = Muon([ours], lr=0.1, momentum=0.9, weight_decay=0.5, dtype=torch.bfloat16)
    torchs = torch.optim.Muon([theirs], lr=0.1, momentum=0.9, weight_decay=0.5)
    for _ in range(5):
        ours.grad = torch.randn(shape)
        theirs.grad = ours.grad.clone()
        mine.step()
        torchs.step()
    torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0)  # bfloat16 iterates, by products in another order


def test_stacked_matrices_are_updated_as_separate_ones():
    torch.manual_seed(1)
    stacked = nn.Parameter(torch.randn(3, 8, 8))
    alone = [nn.Parameter(matrix.clone()) for matrix in stacked.detach()]
    stacked.grad = torch.randn(3, 8, 8)
    for matrix, grad in zip(alone, stacked.grad, strict=True):
        matrix.grad = grad.clone()
    Muon([stacked], lr=0.1).step()
    Muon(alone, lr=0.1).step()
    torch.testing.assert_close(stacked, torch.stack([matrix.detach() for matrix in alone]))


def test_its_state_survives_saving():
    torch.manual_seed(1)
    weights = [nn.Parameter(torch.ones(4, 4)) for _ in range(2)]
    optimizers = [Muon([weight], lr=0.1) for weight in weights]
    weights[0].grad = torch.randn(4, 4)
    optimizers[0].step()
    weights[1].data.copy_(weights[0].data)
    optimizers[1].load_state_dict(deepcopy(optimizers[0].state_dict()))
    for weight, optimizer in zip(weights, optimizers, strict=True):
        weight.grad = torch.eye(4)
        optimizer.step()
    assert torch.equal(*weights)
