from pathlib import Path

import pytest
from dvc_data.index import DataIndexError

from stages.core.errors import InputError
from stages.tools.compare.runs import read_file, read_inputs, read_run

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


def test_what_is_not_in_the_cache_is_none(monkeypatch):
    def missing(_path: str, rev: str) -> str:
        raise DataIndexError(rev)

    monkeypatch.setattr("dvc.api.read", missing)
    assert read_file("models/config.json", "HEAD") is None
    assert read_inputs("HEAD") == {}


def test_text_tokenizer_and_code_have_the_digests_of_the_lock(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(LOCK)
    first = read_inputs(None)
    assert (first["text"], first["tokenizer"]) == ("11111111", "22222222")
    Path("dvc.lock").write_text(LOCK.replace("33333333", "44444444"))
    second = read_inputs(None)
    assert first["code"] != second["code"]
    assert first | {"code": ""} == second | {"code": ""}
