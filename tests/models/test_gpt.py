import pytest
import torch

from stages.models.base import LanguageModel, build
from stages.models.gpt import norm, rotary_table, rotate
from tests.conftest import model_params

SIZE = 12


def awake(**changes) -> LanguageModel:
    """Make a model whose silent matrices speak, so that a mistake in any of them shows."""
    torch.manual_seed(1)
    model = build(model_params(**changes), SIZE)
    for weight in model.parameters():
        weight.data.normal_(std=0.3)
    return model.eval()


def ids(length: int = 20, seed: int = 1) -> torch.Tensor:
    return torch.randint(SIZE, (2, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("recent", [False, True])
@pytest.mark.parametrize("prior", ["none", "kneser_ney"])
def test_what_comes_later_changes_nothing_before(window, prior, recent):
    model = awake(n_layer=2, window=window, prior=prior, recent=recent)
    model.fit(ids(400)[0])
    before, after = ids(), ids()
    after[:, 12:] = (after[:, 12:] + 1) % SIZE
    torch.testing.assert_close(model(before)[:, :12], model(after)[:, :12])
    assert not torch.allclose(model(before)[:, 12:], model(after)[:, 12:])


def test_a_fresh_network_on_a_prior_is_the_prior():
    torch.manual_seed(1)
    model = build(model_params(prior="kneser_ney", recent=True), SIZE)
    model.fit(ids(400)[0])
    assert torch.equal(model(ids()), model.prior(ids()))


def test_a_fresh_network_without_prior_knows_nothing():
    torch.manual_seed(1)
    assert not build(model_params(), SIZE)(ids()).any()


def test_a_narrow_window_forgets_and_two_blocks_reach_further():
    one, two = awake(window=4), awake(window=4, n_layer=2)
    changed = ids()
    changed[:, 0] = (changed[:, 0] + 1) % SIZE
    for model, reach in ((one, 4), (two, 7)):
        same = torch.isclose(model(ids()), model(changed)).all(-1).all(0)
        assert same[reach:].all()
        assert not same[:reach].any()


def test_logits_are_capped():
    model = awake()
    model.head.data.mul_(1e4)
    assert model(ids()).abs().max() <= 15


def test_rotation_keeps_lengths_and_sees_distances_alone():
    cos, sin = rotary_table(torch.arange(32), 8)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(1)).unbind(0)
    scores = [float(rotate(q, cos[at], sin[at]) @ rotate(k, cos[at - 3], sin[at - 3])) for at in (3, 10, 31)]
    assert scores == pytest.approx([scores[0]] * 3, rel=1e-4)
    torch.testing.assert_close(rotate(q, cos[5], sin[5]).norm(), q.norm())


def test_norm_gives_a_root_mean_square_of_one():
    x = norm(torch.randn(3, 50, generator=torch.Generator().manual_seed(1)) * 7)
    torch.testing.assert_close(x.square().mean(-1), torch.ones(3), atol=1e-4, rtol=0)


def test_bfloat16_changes_little():
    model = awake(n_layer=2, window=4)
    exact = model(ids())
    model.stream_dtype = torch.bfloat16
    rough = model(ids())
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().mean() < 0.1 * exact.abs().mean()
