"""The lecture's models, each compared with a naive loop or the model before it."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from stages.models.base import LanguageModel, build_model
from stages.models.lecture_layers import MultiHeadAttention
from tests.conftest import model_params, randomize

VOCAB_SIZE = 11
IDS = torch.randint(VOCAB_SIZE, (2, 10), generator=torch.Generator().manual_seed(1))


def new_model(kind: str, **changes) -> LanguageModel:
    torch.manual_seed(1)
    model = build_model(model_params(kind=kind, **changes), VOCAB_SIZE)
    model.fit(torch.randint(VOCAB_SIZE, (200,)))
    return model.eval()


def slow_head(x: Tensor, layer: MultiHeadAttention) -> Tensor:
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
    model = new_model("average")
    x = model.embed(IDS)
    slow = torch.stack([x[:, : t + 1].mean(1) for t in range(10)], dim=1)
    torch.testing.assert_close(model(IDS), model.head(slow))


def test_head_is_attention_by_a_loop():
    model = new_model("head")
    torch.testing.assert_close(model(IDS), model.head(slow_head(model.embed(IDS), model.attention)))


def test_a_head_with_equal_scores_is_the_average():
    model = new_model("head")
    model.attention.query.weight.data.zero_()
    mean = new_model("average")
    mean.load_state_dict({name: weight for name, weight in model.state_dict().items() if "attention" not in name})
    mean.head.weight.data @= model.attention.value.weight
    torch.testing.assert_close(model(IDS), mean(IDS))


def test_many_heads_are_single_heads_side_by_side():
    heads, x = new_model("multihead", n_head=4).attention, torch.randn(2, 10, 16)
    parts = []
    for index in range(4):
        part = slice(4 * index, 4 * index + 4)
        q, k, v = (x @ layer.weight[part].T for layer in (heads.query, heads.key, heads.value))
        parts.append(F.scaled_dot_product_attention(q, k, v, is_causal=True))
    torch.testing.assert_close(heads(x), torch.cat(parts, dim=-1))


def test_one_head_of_multihead_with_an_identity_projection_is_head():
    many, one = new_model("multihead", n_head=1), new_model("head")
    many.attention_out.weight.data.copy_(torch.eye(16))
    many.attention_out.bias.data.zero_()
    one.load_state_dict({name: weight for name, weight in many.state_dict().items() if "attention_out" not in name})
    torch.testing.assert_close(many(IDS), one(IDS))


def test_a_block_is_its_formula():
    model = randomize(new_model("block"))
    x, block = model.embed(IDS), model.block
    x = x + block.attention_out(block.attention(block.norm_1(x)))
    x = x + block.mlp.down(block.mlp.up(block.norm_2(x)).clamp(min=0))
    torch.testing.assert_close(model(IDS), model.head(model.norm(x)))


def test_the_lectures_gpt_of_one_block_is_block():
    one = randomize(new_model("block"))
    many = new_model("lecture_gpt", n_layer=1)
    many.load_state_dict({name.replace("block.", "blocks.0."): weight for name, weight in one.state_dict().items()})
    torch.testing.assert_close(many(IDS), one(IDS))


def test_heads_can_be_an_encoder_and_attend_to_another_sequence():
    torch.manual_seed(1)
    encoder, x, other = MultiHeadAttention(16, 2, causal=False), torch.randn(2, 10, 16), torch.randn(2, 7, 16)
    changed = x.clone()
    changed[:, 9] += 1
    assert not torch.isclose(encoder(x)[:, 0], encoder(changed)[:, 0]).all()
    torch.testing.assert_close(encoder(x, x), encoder(x))
    assert encoder(x, other).shape == (2, 10, 16)
