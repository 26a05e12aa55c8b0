"""What holds for every model in the registry."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from stages.models.base import LanguageModel, build_model, count_parameters
from stages.models.reference_generator import generate_reference
from tests.conftest import model_params, randomize
from tests.import_graph import KINDS

VOCAB_SIZE = 11
IDS = torch.randint(VOCAB_SIZE, (2, 10), generator=torch.Generator().manual_seed(1))


def random_model(kind: str, **changes: Any) -> LanguageModel:
    torch.manual_seed(1)
    model = randomize(build_model(model_params(kind=kind, **changes), VOCAB_SIZE), std=0.4)
    model.fit(torch.randint(VOCAB_SIZE, (200,)))
    assert isinstance(model, LanguageModel)
    return model.eval()


@pytest.mark.parametrize("changes", [{"kind": "kneser_ney"}, {"prior": "kneser_ney"}, {}, {"kind": "bigram"}])
def test_the_ngram_model_of_a_model_has_counted_its_training_text(changes):
    text = torch.randint(VOCAB_SIZE, (200,))
    model, counts = (
        build_model(model_params(**of_model), VOCAB_SIZE) for of_model in (changes, {"kind": "kneser_ney"})
    )
    model.fit(text)
    counts.fit(text)
    if changes in ({}, {"kind": "bigram"}):
        assert model.ngram_model is None
    else:
        assert model.ngram_model is not None
        torch.testing.assert_close(model.ngram_model(IDS), counts(IDS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_depends_on_the_present_but_not_on_the_future(kind):
    model = random_model(kind)
    changed = IDS.clone()
    changed[:, 6] = (changed[:, 6] + 1) % VOCAB_SIZE
    before, after = model(IDS), model(changed)
    assert before.shape == (2, 10, VOCAB_SIZE)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.isclose(before[:, 6], after[:, 6]).all(-1).any()


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_last_context_length_tokens_matter(kind):
    model = random_model(kind, block_size=10)
    if model.context_length < 10:
        torch.testing.assert_close(model(IDS)[:, -1], model(IDS[:, -model.context_length :])[:, -1])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if build_model(model_params(kind=kind), 5).supports_kv_cache])
@pytest.mark.parametrize("chunks", [[10], [4, 6], [1, 1, 5, 3]])
def test_a_kv_cache_is_read_as_well_as_written(kind, chunks):
    model = random_model(kind)
    kv_cache = model.new_kv_cache()
    parts = [model(part, kv_cache=kv_cache) for part in IDS.split(chunks, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), model(IDS))


@pytest.mark.parametrize("kind", KINDS)
def test_the_recorded_precision_is_what_runs(kind):
    model = build_model(model_params(kind=kind), VOCAB_SIZE, torch.bfloat16)
    model.fit(torch.randint(VOCAB_SIZE, (200,)))
    dtypes: set[torch.dtype] = set()
    real = F.linear

    def spy(x: Tensor, *rest: Any) -> Tensor:
        dtypes.add(x.dtype)
        return real(x, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "linear", spy)
        assert model(IDS).dtype == torch.float32
    assert model.compute_dtype == (torch.bfloat16 if kind == "gpt" else torch.float32)
    assert (torch.bfloat16 in dtypes) == (model.compute_dtype == torch.bfloat16)


def test_parameters_are_those_that_gradients_change():
    assert count_parameters(build_model(model_params(kind="bigram"), 5)) == 25
    assert count_parameters(random_model("kneser_ney")) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_generator_samples_from_the_model(kind):
    model = random_model(kind, block_size=6)
    ids = generate_reference(model, IDS, 8, temperature=1.0, seed=3)
    assert ids.shape == (2, 8)
    assert torch.equal(ids, generate_reference(model, IDS, 8, temperature=1.0, seed=3))
    cold = generate_reference(model, IDS, 3, temperature=1e-4, seed=3)
    text = IDS
    for token in cold.unbind(1):
        torch.testing.assert_close(model(text[:, -6:])[:, -1].argmax(-1), token)
        text = torch.cat((text, token[:, None]), dim=1)
