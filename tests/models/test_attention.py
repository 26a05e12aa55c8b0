import pytest
import torch
from torch import Tensor

from stages.models.attention import attend, attend_locally


def heads(length: int, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 2, 3, length, 8, generator=generator).unbind(0)
    return q, k, v


def written_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
    out: Tensor = scores.softmax(-1) @ v
    return out


def test_decoder_and_encoder_equal_the_formula_written_out():
    q, k, v = heads(10)
    everything = torch.ones(10, 10, dtype=torch.bool)
    torch.testing.assert_close(attend(q, k, v, causal=True), written_out(q, k, v, everything.tril()))
    torch.testing.assert_close(attend(q, k, v, causal=False), written_out(q, k, v, everything))


@pytest.mark.parametrize(("causal", "changes"), [(True, False), (False, True)])
def test_a_changed_future_changes_the_past_in_an_encoder_alone(causal, changes):
    q, k, v = heads(10)
    before = attend(q, k, v, causal)[:, :, :9]
    k[:, :, 9] += 1
    v[:, :, 9] += 1
    assert torch.equal(before, attend(q, k, v, causal)[:, :, :9]) != changes


def test_cross_attention_with_the_same_sequence_is_self_attention():
    q, k, v = heads(10)
    other = [x.clone() for x in (k, v)]
    assert torch.equal(attend(q, *other, causal=False), attend(q, k, v, causal=False))
    assert attend(q[:, :, :4], k, v, causal=False).shape == (2, 3, 4, 8)


@pytest.mark.parametrize("length", [1, 4, 10, 12, 13])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_local_attention_equals_a_band_written_out(length, dtype):
    q, k, v = (x.to(dtype) for x in heads(length))
    distance = torch.arange(length)[:, None] - torch.arange(length)
    band = (distance >= 0) & (distance < 4)
    expected = written_out(q.float(), k.float(), v.float(), band)
    tolerance = {} if dtype == torch.float32 else {"atol": 0.03, "rtol": 0.03}
    torch.testing.assert_close(attend_locally(q, k, v, 4).float(), expected, **tolerance)
