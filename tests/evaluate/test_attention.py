import pytest
import torch

from stages.evaluate.attention import attention_weights
from stages.models.attention import attend, attend_locally
from stages.models.base import build
from tests.conftest import model_params

IDS = torch.arange(9)


def values(module, x):
    qkv = x @ module.qkv.flatten(0, 1).T
    return qkv.view(*x.shape[:2], 3, module.n_head, -1)


@pytest.mark.parametrize("window", [0, 4])
def test_weights_of_the_modern_gpt_average_its_values_as_the_model_does(window: int, monkeypatch):
    model = build(model_params(n_layer=2, window=window), 11).eval()
    for weight in model.parameters():
        weight.data.normal_(std=0.5)
    weights, made = attention_weights(model, IDS), []

    def spy(real):
        def attending(q, k, v, *rest, **named):
            made.append((v, real(q, k, v, *rest, **named)))
            return made[-1][1]

        return attending

    monkeypatch.setattr("stages.models.gpt.attend", spy(attend))
    monkeypatch.setattr("stages.models.gpt.attend_locally", spy(attend_locally))
    model(IDS[None])
    assert len(weights) == len(made) == 2
    for each, (v, y) in zip(weights, made, strict=True):
        torch.testing.assert_close(each.sum(-1), torch.ones(2, 9))
        torch.testing.assert_close(each @ v[0], y[0])


def test_weights_of_the_lecture_s_heads_do_as_well():
    model = build(model_params(kind="multihead"), 11).eval()
    (weights,) = attention_weights(model, IDS)
    x = model.embed(IDS[None])
    v = model.attention.value(x).view(9, 2, -1).transpose(0, 1)
    torch.testing.assert_close((weights @ v).transpose(0, 1).flatten(1), model.attention(x)[0])


def test_a_table_looks_at_nothing_and_no_hook_stays_behind():
    assert attention_weights(build(model_params(kind="bigram"), 11), IDS) == []
    model = build(model_params(), 11)
    attention_weights(model, IDS)
    assert not any(module._forward_pre_hooks for module in model.modules())
