import pytest

from stages.core.errors import WorkError
from stages.models.ngram import ram_check as memory
from tests.conftest import model_params

PRIOR = {"prior": "kneser_ney", "order": 7}


@pytest.fixture(autouse=True)
def _a_gigabyte(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**9)


def test_counting_more_than_fits_is_refused_with_figures_and_what_to_set():
    with pytest.raises(WorkError, match=r"200000000 tokens.*some 56.0 GB, and 1.0 GB are free; set"):
        memory.check_memory(model_params(**PRIOR), 200_000_000, 65)
    with pytest.raises(WorkError, match=r"model.order: 2 would fit; or set model.prior: none"):
        memory.check_memory(model_params(**PRIOR), 10_000_000, 65)


def test_pieces_of_words_need_more():
    with pytest.raises(WorkError, match=r"counting 3000000 tokens at model.order 7 takes some 2.0 GB"):
        memory.check_memory(model_params(**PRIOR), 3_000_000, 512)


def test_what_fits_or_counts_nothing_passes():
    memory.check_memory(model_params(**PRIOR), 3_000_000, 256)
    memory.check_memory(model_params(kind="kneser_ney", order=7), 9_000_000, 65)
    memory.check_memory(model_params(), 10**12, 65)


def test_this_machine_says_what_is_free(monkeypatch):
    monkeypatch.undo()
    assert 10**8 < memory.free_bytes() < 10**14
