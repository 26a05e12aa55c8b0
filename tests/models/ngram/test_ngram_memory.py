import pytest

from stages.core.errors import WorkError
from stages.models.base import build_model
from stages.models.ngram import ngram_memory
from tests.conftest import model_params


@pytest.fixture
def _one_gigabyte(monkeypatch):
    monkeypatch.setattr(ngram_memory, "free_bytes", lambda: 10**9)


@pytest.mark.usefixtures("_one_gigabyte")
@pytest.mark.parametrize(
    ("tokens", "order", "vocab_size", "message"),
    [
        (200_000_000, 7, 65, "200000000 tokens .* needs about 56.0 GB, but only 1.0 GB are free; set train.m"),
        (10_000_000, 7, 65, "set train.max_tokens: 3571428 or model.prior: none"),
        (4_000_000, 7, 65, "set model.ngram_order: 6 or train.max_tokens: 3571428 "),  # a shorter one would fit
        (4_600_000, 2, 65, "needs about 1.0 GB"),
        (3_000_000, 7, 512, "counting 3000000 tokens with model.ngram_order 7 needs about 2.0 GB"),
        (3_000_000, 10, 65, "needs about 1.8 GB, .* set model.ngram_order: 7 or train.max_tokens: 1639344 "),
    ],
)
def test_counts_that_do_not_fit_are_refused_with_what_to_set(tokens, order, vocab_size, message):
    with pytest.raises(WorkError, match=message):
        ngram_memory.check_memory(tokens, order, vocab_size, cross_fitting=True)


@pytest.mark.usefixtures("_one_gigabyte")
@pytest.mark.parametrize(
    ("tokens", "order", "vocab_size", "cross_fitting"),
    [
        (4_500_000, 2, 65, True),
        (3_000_000, 7, 65, True),
        (3_000_000, 7, 256, True),
        (1_639_344, 10, 65, True),
        (9_000_000, 7, 65, False),
    ],
)
def test_counts_that_fit_are_accepted(tokens, order, vocab_size, cross_fitting):
    ngram_memory.check_memory(tokens, order, vocab_size, cross_fitting=cross_fitting)


@pytest.mark.parametrize("changes", [{"kind": "kneser_ney"}, {"prior": "kneser_ney"}])
def test_models_check_before_they_count(monkeypatch, tokens, tokenizer, changes):
    monkeypatch.setattr(ngram_memory, "free_bytes", lambda: 1000)
    with pytest.raises(WorkError, match=r"needs about \d+ MB, but only 0 MB are free; set "):
        build_model(model_params(**changes), len(tokenizer)).fit(tokens)


@pytest.mark.parametrize(
    ("own", "files", "free"),
    [
        ("0::/", {}, None),
        ("0::/", {"memory.max": "max", "memory.current": "900"}, None),
        ("0::/", {"memory.max": "1000", "memory.current": "900"}, 100),
        (
            "0::/",
            {"memory.max": "1000", "memory.current": "900", "memory.stat": "active_file 7\ninactive_file 60"},
            160,
        ),
        ("0::/", {"memory.max": "1000", "memory.current": "1100"}, 0),
        ("0::/job/step", {"job/memory.max": "1000", "job/memory.current": "900"}, 100),
        (
            "3:memory:/job",
            {
                "memory/job/memory.limit_in_bytes": "1000",
                "memory/job/memory.usage_in_bytes": "900",
                "memory/job/memory.stat": "inactive_file 1\ntotal_inactive_file 20",
            },
            120,
        ),
    ],
)
def test_a_container_may_use_what_its_limit_leaves_and_the_kernel_would_drop(tmp_path, monkeypatch, own, files, free):
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr("stages.core.device.CGROUPS", tmp_path / "cgroups")
    monkeypatch.setattr("stages.core.device.OWN_CGROUPS", tmp_path / "own")
    for name, content in files.items():
        path = tmp_path / "cgroups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    if free is None:
        assert 10**8 < ngram_memory.free_bytes() < 1 << 62
    else:
        assert ngram_memory.free_bytes() == free


@pytest.mark.usefixtures("_one_gigabyte")
def test_every_process_needs_memory_for_its_own_counts(monkeypatch):
    ngram_memory.check_memory(3_000_000, 7, 65, cross_fitting=True)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    with pytest.raises(WorkError, match=r"needs about 840 MB, but only 250 MB are free; set .*max_tokens: 892857 "):
        ngram_memory.check_memory(3_000_000, 7, 65, cross_fitting=True)


def test_more_tokens_than_32_bits_can_number_are_refused(monkeypatch):
    monkeypatch.setattr(ngram_memory, "free_bytes", lambda: 1 << 60)
    ngram_memory.check_memory(214_748_364, 10, 65, cross_fitting=True)
    with pytest.raises(WorkError, match=r"214748365 tokens are too many .* 10; set train.max_tokens: 214748364"):
        ngram_memory.check_memory(214_748_365, 10, 65, cross_fitting=True)
    ngram_memory.check_memory(10**9, 10, 65, cross_fitting=False)


@pytest.mark.parametrize(("vocab_size", "most"), [(256, 20_000_000), (257, 8_000_000)])
def test_the_evaluation_counts_all_of_a_text_that_is_not_very_long(monkeypatch, vocab_size, most):
    monkeypatch.setattr(ngram_memory, "free_bytes", lambda: 1 << 50)
    for tokens, counted in ((1, 1), (most, most), (most + 1, most)):
        assert ngram_memory.countable_tokens("a loss", tokens, vocab_size, per_token=100) == counted


def test_what_is_predicted_is_counted_before_the_training_text(monkeypatch, caplog):
    monkeypatch.setattr(ngram_memory, "free_bytes", lambda: 10_000)
    assert ngram_memory.countable_tokens("a loss", 70, 65, per_token=100, predicted=30) == 70
    assert not caplog.records
    assert ngram_memory.countable_tokens("a loss", 90, 65, per_token=100, predicted=30) == 70
    assert "a loss: only 70 of 90 tokens are counted, for lack of memory" in caplog.text
    with pytest.raises(WorkError, match="a loss: reading 100 tokens needs about 0 MB, but only 0 MB are free"):
        ngram_memory.countable_tokens("a loss", 90, 65, per_token=100, predicted=100)


@pytest.mark.parametrize(
    ("order", "vocab_size", "expected"), [(3, 256, 100), (7, 256, 175), (10, 256, 250), (7, 257, 420), (10, 257, 555)]
)
def test_memory_for_counting_along_a_text(order, vocab_size, expected):
    assert ngram_memory.adaptive_bytes_per_token(order, vocab_size) == expected


def test_the_free_memory_of_this_machine_is_plausible():
    assert 10**8 < ngram_memory.free_bytes() < 10**14
