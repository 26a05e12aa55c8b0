from typing import Any

import pytest
import torch
from torch import Tensor

from stages.models.base import build_model
from stages.models.gpt import GPT
from stages.models.gpt_block import ROTARY_BASE, norm, rotary_table, rotate
from stages.models.ngram.ngram_experts import expert_log_probs
from tests.conftest import model_params, randomize

VOCAB_SIZE = 12


def random_gpt(**changes: Any) -> GPT:
    """Return a `gpt` in which every weight has an effect."""
    torch.manual_seed(1)
    model = randomize(build_model(model_params(**changes), VOCAB_SIZE)).eval()
    assert isinstance(model, GPT)
    return model


def random_ids(length: int = 20, seed: int = 1) -> Tensor:
    return torch.randint(VOCAB_SIZE, (2, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("cache_lm", [False, True])
@pytest.mark.parametrize("prior", ["none", "kneser_ney"])
def test_later_tokens_do_not_change_earlier_predictions(window, prior, cache_lm):
    model = random_gpt(n_layer=2, sliding_window=window, prior=prior, cache_lm=cache_lm)
    model.fit(random_ids(400)[0])
    before, after = random_ids(), random_ids()
    after[:, 12:] = (after[:, 12:] + 1) % VOCAB_SIZE
    torch.testing.assert_close(model(before)[:, :12], model(after)[:, :12])
    assert not torch.allclose(model(before)[:, 12:], model(after)[:, 12:])


def test_only_distances_between_positions_matter_after_a_million_tokens():
    model, ids = random_gpt(n_layer=2, sliding_window=4), random_ids()
    kv_cache = model.new_kv_cache()
    kv_cache.length = 1_000_000
    torch.testing.assert_close(model(ids, kv_cache=kv_cache), model(ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("first", [0, 5, 11, 19])
@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("prior", ["none", "kneser_ney"])
def test_the_last_predictions_do_not_need_all_of_the_network(window, prior, first):
    model = random_gpt(n_layer=2, sliding_window=window, prior=prior, cache_lm=prior != "none")
    model.fit(random_ids(400)[0])
    torch.testing.assert_close(model.predict_from(random_ids(), first), model(random_ids())[:, first:])


@pytest.mark.parametrize("cache_lm", [False, True])
def test_a_new_network_predicts_what_its_last_expert_predicts(cache_lm):
    model = build_model(model_params(prior="kneser_ney", cache_lm=cache_lm), VOCAB_SIZE)
    assert isinstance(model, GPT)
    model.fit(random_ids(400)[0])
    ids = random_ids()
    experts = expert_log_probs(model.prior.table, model.prior.find_rows(ids), ids, cache_lm)
    torch.testing.assert_close(model(ids), experts[:, :, -1])


def test_a_new_network_without_prior_predicts_a_uniform_distribution():
    assert not build_model(model_params(), VOCAB_SIZE)(random_ids()).any()


def test_positions_select_the_cross_fitted_prior():
    model = random_gpt(prior="kneser_ney", cache_lm=True)
    text = random_ids(400)[0]
    model.fit(text)
    positions = torch.arange(100, 130)[None]
    ids = text[positions]
    assert model.cross_fitted is not None
    expected = model.cross_fitted(ids, positions)
    seen: list[Tensor] = []
    model._full_count_log_probs = lambda _: pytest.fail("the full counts were used")  # type: ignore[method-assign, assignment]
    real = model.cross_fitted.forward
    model.cross_fitted.forward = lambda *inputs: seen.append(real(*inputs)) or seen[-1]  # type: ignore[method-assign, func-returns-value, return-value]
    model(ids, train_positions=positions)
    torch.testing.assert_close(seen[0], expected)


@pytest.mark.parametrize("chunks", [[20], [1] * 20, [7, 13], [5, 1, 14]])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"sliding_window": 4},
        {"prior": "kneser_ney", "cache_lm": True},
        {"prior": "kneser_ney", "sliding_window": 5},
    ],
    ids=str,
)
def test_a_kv_cache_is_read_as_well_as_written(changes, chunks):
    model = random_gpt(n_layer=2, **changes)
    model.fit(random_ids(400)[0])
    kv_cache = model.new_kv_cache()
    parts = [model(part, kv_cache=kv_cache) for part in random_ids().split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(random_ids()), atol=1e-4, rtol=1e-3)
    assert kv_cache.length == 20


@pytest.mark.parametrize("chunk", [1, 3])
def test_beyond_the_block_attention_covers_the_last_block(chunk):
    model, ids = random_gpt(block_size=8), random_ids()
    kv_cache = model.new_kv_cache()
    logits = torch.cat([model(part, kv_cache=kv_cache) for part in ids.split(chunk, dim=1)], dim=1)
    for end in range(8, 20):  # rotary positions are relative, so one layer gives the same at any position
        expected = model(ids[:, end - 7 : end + 1])[:, -1]
        torch.testing.assert_close(logits[:, end], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk", [1, 3])
def test_beyond_the_block_the_experts_use_the_last_block(chunk):
    model, ids = build_model(model_params(block_size=8, prior="kneser_ney", cache_lm=True), VOCAB_SIZE), random_ids()
    assert isinstance(model, GPT)
    model.fit(random_ids(400)[0])
    model.expert_bias.data = torch.tensor([0.3, 0.5, 0.2, 0.4, 0.1])
    kv_cache = model.new_kv_cache()
    logits = torch.cat([model(part, kv_cache=kv_cache) for part in ids.split(chunk, dim=1)], dim=1)
    for end in range(8, 20):
        torch.testing.assert_close(logits[:, end], model(ids[:, end - 7 : end + 1])[:, -1])


def test_a_sliding_window_limits_a_layer_and_two_layers_reach_further():
    one, two = random_gpt(sliding_window=4), random_gpt(sliding_window=4, n_layer=2)
    changed = random_ids()
    changed[:, 0] = (changed[:, 0] + 1) % VOCAB_SIZE
    for model, reach in ((one, 4), (two, 7)):
        same = torch.isclose(model(random_ids()), model(changed)).all(-1).all(0)
        assert same[reach:].all()
        assert not same[:reach].any()


def test_context_experts_have_no_effect_where_they_know_nothing():
    model = random_gpt(prior="kneser_ney", cache_lm=True, context_experts=True)
    model.fit(random_ids(400)[0])
    log_probs = torch.rand(2, 5, 5, VOCAB_SIZE).log_softmax(-1)
    log_probs[:, :, 3:] = log_probs[:, :, 2:3]
    logits, weights = torch.rand(2, 5, VOCAB_SIZE), torch.rand(2, 5, 5)
    mixed = model.train().mix_experts(logits, weights, log_probs)
    torch.testing.assert_close(mixed, logits + (weights[..., None, :3] @ log_probs[:, :, :3]).squeeze(-2))


def test_outside_of_training_a_fiftieth_of_the_prediction_is_counted():
    model = random_gpt(prior="kneser_ney", cache_lm=True)
    log_probs = torch.rand(5, VOCAB_SIZE).log_softmax(-1)
    surprised = torch.zeros(VOCAB_SIZE)
    surprised[3] = -60.0
    probs = model.mix_experts(surprised, torch.zeros(5), log_probs).exp()
    expected = 0.98 * surprised.softmax(-1) + 0.02 * log_probs[2].exp()
    torch.testing.assert_close(probs, expected)
    torch.testing.assert_close(probs.sum(), torch.tensor(1.0))
    assert model.train().mix_experts(surprised, torch.zeros(5), log_probs).exp()[3] < 1e-20


def test_logits_are_capped():
    model = random_gpt()
    model.head.data.mul_(1e4)
    assert 14.9 < model(random_ids()).abs().max() <= 15


def test_rotary_angles_follow_the_formula():
    cos, sin = rotary_table(torch.arange(32), 8)
    angles = torch.arange(32)[:, None] * ROTARY_BASE ** (-torch.arange(4) / 4)
    torch.testing.assert_close(cos, angles.cos())
    torch.testing.assert_close(sin, angles.sin())
    assert ROTARY_BASE == 1000


def test_rotation_keeps_lengths_and_depends_on_distances_only():
    cos, sin = rotary_table(torch.arange(32), 8)
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(1)).unbind(0)
    scores = [float(rotate(q, cos[at], sin[at]) @ rotate(k, cos[at - 3], sin[at - 3])) for at in (3, 10, 31)]
    assert scores == pytest.approx([scores[0]] * 3, rel=1e-4)
    torch.testing.assert_close(rotate(q, cos[5], sin[5]).norm(), q.norm())
    assert not torch.allclose(rotate(q, cos[5], sin[5]), q)


def test_the_order_of_tokens_matters():
    model = random_gpt()
    ids = torch.tensor([[1, 2, 3, 4], [2, 1, 3, 4]])
    first, second = model(ids)[:, -1].unbind(0)
    assert not torch.allclose(first, second, atol=1e-3)  # without positions, attention could not tell


def test_norm_gives_a_root_mean_square_of_one():
    x = norm(torch.randn(3, 50, generator=torch.Generator().manual_seed(1)) * 7)
    torch.testing.assert_close(x.square().mean(-1), torch.ones(3), atol=1e-4, rtol=0)


def test_bfloat16_changes_little():
    exact = random_gpt(n_layer=2, sliding_window=4)
    rough = build_model(exact.params, VOCAB_SIZE, torch.bfloat16).eval()
    rough.load_state_dict(exact.state_dict())
    logits, rough_logits = exact(random_ids()), rough(random_ids())
    assert rough.compute_dtype == torch.bfloat16
    assert rough_logits.dtype == torch.float32
    assert not torch.equal(logits, rough_logits)
    assert (logits - rough_logits).abs().mean() < 0.1 * logits.abs().mean()
