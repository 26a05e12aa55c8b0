from pathlib import Path

import pytest
from dvc_data.index import DataIndexError

from stages.core.errors import InputError
from stages.tools.compare.runs import read_curve, read_file, read_inputs, read_run
from tests.report.conftest import write_provenance

LOCK = """
stages:
  tokenize:
    deps: [{path: data/raw/corpus.txt, md5: 11111111aa}]
  train:
    deps: [{path: data/tokens/tokenizer.json, md5: 22222222aa}, {path: stages/models, md5: 33333333aa.dir}]
"""


@pytest.mark.parametrize("folder", [".", "below/git"])
def test_files_of_a_revision_are_named_from_the_folder_of_git(folder, tmp_path: Path, monkeypatch):
    (tmp_path / ".git").mkdir()
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / folder)
    monkeypatch.setattr("dvc.api.read", lambda path, rev: f"{path} at {rev}")
    assert read_file("reports/train.tsv", "HEAD") == (Path(folder) / "reports/train.tsv").as_posix() + " at HEAD"


def test_a_revision_without_results_says_so(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dvc.yaml").write_text("stages: {}\n")
    monkeypatch.setattr("dvc.api.params_show", lambda **_: {})

    def missing(**_: object) -> None:
        raise FileNotFoundError(2, "No such file or directory", "reports/metrics.json")

    monkeypatch.setattr("dvc.api.metrics_show", missing)
    with pytest.raises(InputError, match=r"'HEAD' has no results: it lacks reports/metrics.json; run `dvc repro` and"):
        read_run("HEAD")


def test_a_text_is_its_digest_whether_or_not_its_provenance_is_available(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(LOCK)
    before = read_inputs(None)
    Path("data/raw").mkdir(parents=True)
    write_provenance()
    assert read_inputs(None) == before


@pytest.mark.parametrize("error", [DataIndexError, ImportError, type("NoCredentialsError", (Exception,), {})])
def test_what_is_not_in_a_cache_that_can_be_reached_is_none(monkeypatch, error):
    def missing(_path: str, rev: str) -> str:
        raise error(rev)

    monkeypatch.setattr("dvc.api.read", missing)
    assert read_file("models/config.json", "HEAD") is None
    assert read_inputs("HEAD") == {}


@pytest.mark.parametrize("content", ["", "step\tval_loss\n", "<<<<<<< HEAD\nstep\ttrain_loss\tval_loss\n1\t2\t3\n"])
def test_a_damaged_learning_curve_is_left_out(content: str, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("reports").mkdir()
    Path("reports/train.tsv").write_text(content)
    assert read_curve(None) is None
    Path("reports/train.tsv").write_text("step\ttrain_loss\tval_loss\n1\t2.0\t3.0\n")
    curve = read_curve(None)
    assert curve is not None
    assert curve["val_loss"].tolist() == [3.0]


def test_text_tokenizer_and_code_have_the_digests_of_the_lock(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(LOCK)
    first = read_inputs(None)
    assert (first["text"], first["tokenizer"]) == ("11111111", "22222222")
    Path("dvc.lock").write_text(LOCK.replace("33333333", "44444444"))
    second = read_inputs(None)
    assert first["code"] != second["code"]
    assert first | {"code": ""} == second | {"code": ""}
