import torch

from stages.models.base import build, count_parameters
from tests.conftest import model_params


def test_only_the_last_character_counts():
    torch.manual_seed(1)
    model = build(model_params(kind="bigram"), 5)
    logits = model(torch.tensor([[0, 1, 2], [3, 1, 2]]))
    assert logits.shape == (2, 3, 5)
    assert torch.equal(logits[0, 1:], logits[1, 1:])
    assert torch.equal(logits[0, 0], model.table.weight[0])
    assert count_parameters(model) == 25
