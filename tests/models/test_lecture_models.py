"""The lecture's rungs, each against a naive loop or the rung before it."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from stages.models.base import LanguageModel, build
from stages.models.layers import Heads
from tests.conftest import model_params
from tests.import_graph import KINDS

SIZE = 11
IDS = torch.randint(SIZE, (2, 10), generator=torch.Generator().manual_seed(1))


def rung(kind: str, **changes) -> LanguageModel:
    torch.manual_seed(1)
    model = build(model_params(kind=kind, **changes), SIZE)
    model.fit(torch.randint(SIZE, (200,)))
    return model.eval()


def wake(model: LanguageModel) -> LanguageModel:
    for weight in model.parameters():
        weight.data.normal_(std=0.4)
    return model


@pytest.mark.parametrize("kind", KINDS)
def test_no_rung_sees_the_future_and_each_sees_the_present(kind):
    model = wake(rung(kind))
    changed = IDS.clone()
    changed[:, 6] = (changed[:, 6] + 1) % SIZE
    before, after = model(IDS), model(changed)
    assert before.shape == (2, 10, SIZE)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.isclose(before[:, 6], after[:, 6]).all(-1).any()


def slow_head(x: Tensor, layer: Heads) -> Tensor:
    """One head, position by position."""
    out = torch.zeros_like(x)
    for b in range(len(x)):
        for t in range(x.shape[1]):
            q = layer.query.weight @ x[b, t]
            scores = torch.stack([q @ (layer.key.weight @ x[b, s]) for s in range(t + 1)]) / x.shape[-1] ** 0.5
            values = torch.stack([layer.value.weight @ x[b, s] for s in range(t + 1)])
            out[b, t] = scores.softmax(0) @ values
    return out


def test_average_is_the_mean_of_the_past_by_a_loop():
    model = rung("average")
    x = model.embed(IDS)
    slow = torch.stack([x[:, : t + 1].mean(1) for t in range(10)], dim=1)
    torch.testing.assert_close(model(IDS), model.head(slow))


def test_head_is_attention_by_a_loop():
    model = rung("head")
    torch.testing.assert_close(model(IDS), model.head(slow_head(model.embed(IDS), model.attention)))


def test_a_head_that_finds_all_keys_alike_is_the_average():
    model = rung("head")
    model.attention.query.weight.data.zero_()
    mean = rung("average")
    mean.load_state_dict({name: weight for name, weight in model.state_dict().items() if "attention" not in name})
    mean.head.weight.data @= model.attention.value.weight
    torch.testing.assert_close(model(IDS), mean(IDS))


def test_many_heads_are_single_heads_side_by_side():
    heads, x = rung("multihead", n_head=4).attention, torch.randn(2, 10, 16)
    parts = []
    for index in range(4):
        part = slice(4 * index, 4 * index + 4)
        q, k, v = (x @ layer.weight[part].T for layer in (heads.query, heads.key, heads.value))
        parts.append(F.scaled_dot_product_attention(q, k, v, is_causal=True))
    torch.testing.assert_close(heads(x), torch.cat(parts, dim=-1))


def test_one_head_of_multihead_with_an_idle_projection_is_head():
    many, one = rung("multihead", n_head=1), rung("head")
    many.project.weight.data.copy_(torch.eye(16))
    many.project.bias.data.zero_()
    one.load_state_dict({name: weight for name, weight in many.state_dict().items() if "project" not in name})
    torch.testing.assert_close(many(IDS), one(IDS))


def test_a_block_is_its_formula():
    model = wake(rung("block"))
    x, block = model.embed(IDS), model.block
    x = x + block.project(block.heads(block.norm_1(x)))
    x = x + block.think.down(block.think.up(block.norm_2(x)).clamp(min=0))
    torch.testing.assert_close(model(IDS), model.head(model.norm(x)))


def test_the_lecture_s_gpt_of_one_block_is_block():
    one = wake(rung("block"))
    many = rung("lecture_gpt", n_layer=1)
    many.load_state_dict({name.replace("block.", "blocks.0."): weight for name, weight in one.state_dict().items()})
    torch.testing.assert_close(many(IDS), one(IDS))


def test_heads_make_an_encoder_and_attend_across():
    torch.manual_seed(1)
    encoder, x, other = Heads(16, 2, causal=False), torch.randn(2, 10, 16), torch.randn(2, 7, 16)
    changed = x.clone()
    changed[:, 9] += 1
    assert not torch.isclose(encoder(x)[:, 0], encoder(changed)[:, 0]).all()
    torch.testing.assert_close(encoder(x, x), encoder(x))
    assert encoder(x, other).shape == (2, 10, 16)
