import logging
import sys
from collections.abc import Mapping
from types import ModuleType

import pytest

from stages.core.errors import ParameterError
from stages.train.tracking import Trackers, load_tracker, track
from tests.conftest import make_text
from tests.small_project import run, set_params


class Recorder:
    """A tracker that records what it receives, and fails at a step if told to."""

    started: list["Recorder"] = []  # noqa: RUF012 - of this test only

    def __init__(self, name: str, params: Mapping[str, object]) -> None:
        self.name, self.params, self.outcome = name, params, ""
        self.points: list[tuple[int, dict[str, float]]] = []
        self.started.append(self)

    def log_point(self, step: int, values: Mapping[str, float]) -> None:
        if step == self.params.get("fails at"):
            raise ConnectionError("no response")
        self.points.append((step, dict(values)))

    def finish(self, succeeded: bool) -> None:
        self.outcome = "succeeded" if succeeded else "failed"


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """Replace two trackers by recorders."""
    for name in ("tensorboard", "mlflow"):
        module = ModuleType(f"stages.tools.trackers.{name}")
        module.start_run = Recorder  # type: ignore[attr-defined]
        module.__file__ = __file__
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Recorder, "started", [])
    return Recorder.started


def test_every_tracker_gets_every_point(recorders, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "wide-one")
    trackers = Trackers({name: load_tracker(name) for name in ("tensorboard", "mlflow")}, {"model.kind": "gpt"})
    trackers.log_point(5, {"val_loss": 1.5})
    trackers.finish(True)
    assert len(recorders) == 2
    assert all(recorder.name.startswith("wide-one 20") for recorder in recorders)
    assert all(recorder.points == [(5, {"val_loss": 1.5})] for recorder in recorders)
    assert all(recorder.outcome == "succeeded" for recorder in recorders)


def test_the_name_of_an_experiment_leads_nowhere(recorders, monkeypatch):
    monkeypatch.setenv("DVC_EXP_NAME", "../../a/b\x1b[m")
    Trackers({"mlflow": Recorder}, {})
    assert recorders[0].name.startswith("__.._a_b__m 20")


def test_a_tracker_that_fails_is_removed_and_the_others_continue(recorders, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("folio"), "propagate", True)
    trackers = Trackers({"mlflow": Recorder}, {"fails at": 2})
    trackers.active["tensorboard"] = Recorder("other", {})
    for step in (1, 2, 3):
        trackers.log_point(step, {})
    trackers.finish(True)
    assert [step for step, _ in recorders[0].points] == [1]
    assert not recorders[0].outcome
    assert [step for step, _ in recorders[1].points] == [1, 2, 3]
    assert "tracker mlflow failed (no response); training continues without it" in caplog.text


def test_the_error_for_a_missing_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "stages.tools.trackers.wandb", raising=False)
    with pytest.raises(ParameterError, match=r"runtime.trackers contains 'wandb'.*pip install -e '\.\[wandb\]'"):
        load_tracker("wandb")


def test_training_sends_its_curve_and_ends_at_the_same_bits(recorders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/corpus.txt").write_text(make_text())
    weights = []
    for trackers in ([], ["mlflow"]):
        set_params(runtime={"trackers": trackers})
        for stage in ("tokenize", "train"):
            run(stage)
        weights.append((tmp_path / "models/model.safetensors").read_bytes())
    assert weights[0] == weights[1]
    (recorder,) = recorders
    assert recorder.params["train.max_steps"] == 30
    curve = [line.split("\t") for line in (tmp_path / "reports/train.tsv").read_text().splitlines()[1:]]
    assert [step for step, _ in recorder.points] == [int(line[0]) for line in curve]
    assert all(isinstance(value, float | int) for _, values in recorder.points for value in values.values())
    assert all(
        values["val_loss"] == pytest.approx(float(line[3]), rel=1e-5)
        for (_, values), line in zip(recorder.points, curve, strict=True)
    )
    assert recorder.outcome == "succeeded"


def test_a_training_that_fails_is_recorded_as_failed(recorders):
    with pytest.raises(RuntimeError), track({"mlflow": Recorder}, {}):
        raise RuntimeError
    assert recorders[0].outcome == "failed"
