import pytest
import torch
from torch import Tensor

from stages.models.attention import attention, attention_weights, record_attention, sliding_window_attention
from stages.models.base import build_model
from tests.conftest import model_params, randomize


def random_qkv(length: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 2, 3, length, 8, generator=generator).unbind(0)
    return q, k, v


def naive_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    out: Tensor = scores.softmax(-1) @ v
    return out


def band(length: int, window: int) -> Tensor:
    distance = torch.arange(length)[:, None] - torch.arange(length)
    return (distance >= 0) & (distance < window)


def test_decoder_and_encoder_equal_the_formula():
    q, k, v = random_qkv(10)
    everything = torch.ones(10, 10, dtype=torch.bool)
    torch.testing.assert_close(attention(q, k, v), naive_attention(q, k, v, everything.tril()))
    torch.testing.assert_close(attention(q, k, v, causal=False), naive_attention(q, k, v, everything))


@pytest.mark.parametrize(("causal", "changes"), [(True, False), (False, True)])
def test_a_changed_future_changes_the_past_in_an_encoder_only(causal, changes):
    q, k, v = random_qkv(10)
    before = attention(q, k, v, causal)[:, :, :9]
    k[:, :, 9] += 1
    v[:, :, 9] += 1
    assert torch.equal(before, attention(q, k, v, causal)[:, :, :9]) != changes


def test_cross_attention_with_the_same_sequence_is_self_attention():
    q, k, v = random_qkv(10)
    other = [x.clone() for x in (k, v)]
    assert torch.equal(attention(q, *other, causal=False), attention(q, k, v, causal=False))
    assert attention(q[:, :, :4], k, v, causal=False).shape == (2, 3, 4, 8)


@pytest.mark.parametrize("length", [1, 4, 10, 12, 13])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sliding_window_attention_equals_a_band(length, dtype):
    q, k, v = (x.to(dtype) for x in random_qkv(length))
    expected = naive_attention(q.float(), k.float(), v.float(), band(length, 4))
    tolerance = {} if dtype == torch.float32 else {"atol": 0.03, "rtol": 0.03}
    torch.testing.assert_close(sliding_window_attention(q, k, v, 4).float(), expected, **tolerance)


@pytest.mark.parametrize("window", [0, 4, 20])
@pytest.mark.parametrize("new", [1, 3, 9])
def test_the_last_positions_attend_to_cached_keys_as_in_one_pass(window, new):
    q, k, v = random_qkv(12)
    expected = naive_attention(q, k, v, band(12, window or 12))[:, :, -new:]
    torch.testing.assert_close(attention(q[:, :, -new:], k, v, window=window), expected)


@pytest.mark.parametrize("window", [0, 4])
def test_recorded_weights_average_the_values_as_the_model_does(window):
    q, k, v = random_qkv(9)
    with record_attention() as weights:
        out = attention(q, k, v, window=window)
    assert len(weights) == 1
    torch.testing.assert_close(weights[0].sum(-1), torch.ones(3, 9))
    torch.testing.assert_close(weights[0] @ v[0], out[0])
    torch.testing.assert_close(weights[0], attention_weights(q, k, True, window)[0])


@pytest.mark.parametrize(
    ("changes", "layers"), [({"n_layer": 2}, 2), ({"kind": "multihead"}, 1), ({"kind": "bigram"}, 0)]
)
def test_every_attention_layer_of_a_model_is_recorded_only_inside(changes, layers):
    model = randomize(build_model(model_params(**changes), 11)).eval()
    ids = torch.arange(9)[None]
    with record_attention() as weights:
        model(ids)
    model(ids)
    assert [tuple(layer.shape) for layer in weights] == [(2, 9, 9)] * layers
