import logging
import sys
from collections.abc import Mapping
from types import ModuleType

import pytest

from stages.core.errors import ParameterError
from stages.train.command import tracking
from stages.train.tracking import Trackers, find
from tests.conftest import make_text, model_params, train_params
from tests.small_project import run, set_params


class Recorder:
    """Notes what it is told, and fails when it is told to."""

    made: list["Recorder"] = []  # noqa: RUF012 - of this test alone

    def __init__(self, name: str, params: Mapping[str, object]) -> None:
        self.name, self.params, self.ended = name, params, ""
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.made.append(self)

    def row(self, step: int, figures: Mapping[str, float]) -> None:
        if step == self.params.get("fails at"):
            raise ConnectionError("nobody answers")
        self.rows.append((step, dict(figures)))

    def end(self, succeeded: bool) -> None:
        self.ended = "well" if succeeded else "badly"


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """Let two services be recorders."""
    for kind in ("tensorboard", "mlflow"):
        module = ModuleType(f"stages.tools.trackers.{kind}")
        module.Run = Recorder  # type: ignore[attr-defined]
        module.__file__ = __file__
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Recorder, "made", [])
    return Recorder.made


def test_every_service_gets_every_row(recorders, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "wide-one")
    trackers = Trackers({kind: find(kind) for kind in ("tensorboard", "mlflow")}, {"model.kind": "gpt"})
    trackers.row(5, {"val_loss": 1.5})
    trackers.end(True)
    assert len(recorders) == 2
    assert all(each.name.startswith("wide-one 20") for each in recorders)
    assert all((each.rows, each.ended) == ([(5, {"val_loss": 1.5})], "well") for each in recorders)


def test_a_service_that_fails_is_left_out_and_the_others_go_on(recorders, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("folio"), "propagate", True)
    trackers = Trackers({"mlflow": Recorder}, {"fails at": 2})
    trackers.running["tensorboard"] = Recorder("other", {})
    for step in (1, 2, 3):
        trackers.row(step, {})
    trackers.end(True)
    assert [step for step, _ in recorders[0].rows] == [1]
    assert not recorders[0].ended
    assert [step for step, _ in recorders[1].rows] == [1, 2, 3]
    assert "mlflow failed (nobody answers); training goes on without it" in caplog.text


def test_a_library_that_is_not_there_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "stages.tools.trackers.wandb", raising=False)
    with pytest.raises(ParameterError, match=r"train.track names 'wandb'.*pip install -e '\.\[wandb\]'"):
        find("wandb")


def test_training_shows_its_curve_and_ends_at_the_same_bits(recorders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/corpus.txt").write_text(make_text())
    weights = []
    for track in ([], ["mlflow"]):
        set_params(train={"track": track})
        for stage in ("tokenize", "train"):
            run(stage)
        weights.append((tmp_path / "models/model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    (tracked,) = recorders
    assert tracked.params["train.max_steps"] == 30
    curve = [line.split("\t") for line in (tmp_path / "reports/train.tsv").read_text().splitlines()[1:]]
    assert [step for step, _ in tracked.rows] == [int(line[0]) for line in curve]
    assert all(
        figures["val_loss"] == pytest.approx(float(line[3]), rel=1e-5)
        for (_, figures), line in zip(tracked.rows, curve, strict=True)
    )
    assert tracked.ended == "well"


def test_a_training_that_fails_is_shown_as_failed(recorders):
    with pytest.raises(RuntimeError), tracking({"mlflow": Recorder}, model_params(), train_params()):
        raise RuntimeError
    assert recorders[0].ended == "badly"
