import pytest

from stages.core.errors import WorkError
from stages.models.base import build_model
from stages.models.ngram import ram_check
from tests.conftest import model_params


@pytest.fixture
def _one_gigabyte(monkeypatch):
    monkeypatch.setattr(ram_check, "free_bytes", lambda: 10**9)


@pytest.mark.usefixtures("_one_gigabyte")
def test_counts_that_do_not_fit_are_refused_with_what_to_set():
    with pytest.raises(
        WorkError, match=r"200000000 tokens .* needs about 56.0 GB, but only 1.0 GB are free; set train.m"
    ):
        ram_check.check_memory(200_000_000, 7, 65, cross_fitting=True)
    with pytest.raises(WorkError, match=r"set train.max_tokens: 3571428 or model.prior: none"):
        ram_check.check_memory(10_000_000, 7, 65, cross_fitting=True)


@pytest.mark.usefixtures("_one_gigabyte")
def test_short_ngrams_are_recommended_if_they_fit():
    with pytest.raises(WorkError, match=r"set model.ngram_order: 6 or train.max_tokens: 3571428 "):
        ram_check.check_memory(4_000_000, 7, 65, cross_fitting=True)
    ram_check.check_memory(4_500_000, 2, 65, cross_fitting=True)
    with pytest.raises(WorkError, match=r"needs about 1.0 GB"):
        ram_check.check_memory(4_600_000, 2, 65, cross_fitting=True)


@pytest.mark.usefixtures("_one_gigabyte")
def test_a_large_vocabulary_needs_more():
    with pytest.raises(WorkError, match=r"counting 3000000 tokens with model.ngram_order 7 needs about 2.0 GB"):
        ram_check.check_memory(3_000_000, 7, 512, cross_fitting=True)


@pytest.mark.usefixtures("_one_gigabyte")
def test_long_ngrams_need_more_each():
    message = r"needs about 1.8 GB, .* set model.ngram_order: 7 or train.max_tokens: 1639344 "
    with pytest.raises(WorkError, match=message):
        ram_check.check_memory(3_000_000, 10, 65, cross_fitting=True)
    ram_check.check_memory(3_000_000, 7, 65, cross_fitting=True)
    ram_check.check_memory(1_639_344, 10, 65, cross_fitting=True)


@pytest.mark.usefixtures("_one_gigabyte")
def test_counts_that_fit_are_accepted():
    ram_check.check_memory(3_000_000, 7, 256, cross_fitting=True)
    ram_check.check_memory(9_000_000, 7, 65, cross_fitting=False)


@pytest.mark.parametrize("changes", [{"kind": "kneser_ney"}, {"prior": "kneser_ney"}])
def test_models_check_before_they_count(monkeypatch, tokens, tokenizer, changes):
    monkeypatch.setattr(ram_check, "free_bytes", lambda: 1000)
    with pytest.raises(WorkError, match=r"needs about \d+ MB, but only 0 MB are free; set "):
        build_model(model_params(**changes), len(tokenizer)).fit(tokens)


def test_the_free_memory_of_this_machine_is_plausible():
    assert 10**8 < ram_check.free_bytes() < 10**14
