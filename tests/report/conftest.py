"""A small model of a text with awkward characters, evaluated, sampled and reported."""

import json
from pathlib import Path

import pytest

from tests.conftest import make_text
from tests.small_project import run, set_params

SMALL: dict[str, dict[str, object]] = {
    "model": {"n_layer": 2},
    "evaluate": {"prediction_tokens": 500},
    "sample": {"max_new_tokens": 60},
    "report": {"highlighted_tokens": 200},
}
AWKWARD = (
    "مرحبا (1).\r\n" + "a" * 150 + "\x0c" + " " * 150 + "</script> <b>&amp; \"é'€ $x$ 😀 \\n\t| --- sample 1 ---\n"
)


def write_provenance(requested: str = "own") -> None:
    """Write corpus.json."""
    about = {
        "name": "own", "source": "own", "sha256": "0" * 64, "bytes": 1, "characters": 1, "documents": 1, "copies": 0,
        "licence": "<none>", "requested": requested,
    }  # fmt: skip
    if requested != "own":
        about["warning"] = "This is a substitute."
    Path("data/raw/corpus.json").write_text(json.dumps(about))


@pytest.fixture(autouse=True)
def _few_tokens_for_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.evaluate.measurements.OVERLAP_LENGTH", 24)


def make_project(text: str, **sections: dict[str, object]) -> None:
    """Write a text and params.yaml into the working directory, and run every stage after the download."""
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/corpus.txt").write_text(text)
    write_provenance()
    set_params(**{name: SMALL.get(name, {}) | sections.get(name, {}) for name in SMALL | sections})
    for stage in ("tokenize", "train", "evaluate"):
        run(stage)
    run("sample", "--output", "reports/samples.txt")
    run("report")


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the finished project; not to be changed."""
    folder = tmp_path_factory.mktemp("reported")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        text = make_text(1200)
        make_project(text + AWKWARD + text[:100] + AWKWARD + text[-1200:-700] + AWKWARD)
    return folder


@pytest.fixture
def inside(reported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in the finished project."""
    monkeypatch.chdir(reported)
    return reported
