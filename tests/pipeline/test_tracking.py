"""The learning curve in DVCLive, TensorBoard, MLflow and Weights & Biases, read back by their own libraries."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import make_text
from tests.import_graph import ROOT
from tests.small_project import run, set_params

pytestmark = pytest.mark.pipeline
KINDS = ["dvclive", "tensorboard", "mlflow", "wandb"]


def train(folder: Path, **environment: str) -> str:
    """Train in a process of its own; return its output."""
    done = subprocess.run(
        [sys.executable, "-m", "stages.train"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture
def curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """Train with all of them; return steps and validation losses."""
    for kind in KINDS:
        pytest.importorskip(kind)
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/corpus.txt").write_text(make_text())
    set_params(runtime={"trackers": KINDS})
    run("tokenize")
    output = train(
        tmp_path,
        MLFLOW_TRACKING_URI=(tmp_path / "mlruns").as_uri(),
        MLFLOW_ALLOW_FILE_STORE="true",
        WANDB_MODE="offline",
        DVC_EXP_NAME="tracked",
    )
    assert "failed" not in output
    lines = Path("reports/train.tsv").read_text().splitlines()[1:]
    return [(int(line.split("\t")[0]), float(line.split("\t")[3])) for line in lines]


def test_each_service_holds_the_curve(curve, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (tmp_path / "logs/tensorboard").iterdir()
    assert events.name.startswith("tracked ")
    written = EventAccumulator(str(events)).Reload()
    assert [(item.step, pytest.approx(item.value, rel=1e-5)) for item in written.Scalars("val_loss")] == curve

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow import MlflowClient

    client = MlflowClient((tmp_path / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("folio")
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert tracked.data.params["model.n_embd"] == "16"
    assert float(tracked.data.params["budget"]) == 1.0
    assert tracked.info.status == "FINISHED"
    history = client.get_metric_history(tracked.info.run_id, "val_loss")
    assert [(item.step, pytest.approx(item.value, rel=1e-5)) for item in history] == curve

    written = (tmp_path / "dvclive/plots/metrics/val_loss.tsv").read_text().splitlines()
    assert written[0] == "step\tval_loss"
    points = [line.split("\t") for line in written[1:]]
    assert [(int(step), pytest.approx(float(loss), abs=1e-5)) for step, loss in points] == curve
    plots = YAML(typ="safe").load(tmp_path / "dvclive/dvc.yaml")["plots"]  # what the extension for VS Code reads
    assert plots == [{"plots/metrics": {"x": "step"}}]
    assert json.loads((tmp_path / "dvclive/metrics.json").read_text())["step"] == curve[-1][0]

    (kept,) = (tmp_path / "logs/wandb").glob("offline-run-*/run-*.wandb")
    assert kept.stat().st_size > 1000


def test_a_service_that_is_down_does_not_stop_a_training(curve, tmp_path):
    set_params(runtime={"trackers": ["mlflow"]}, train={"max_steps": 10})
    output = train(tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "tracker mlflow failed (" in output
    assert "training continues without it" in output
    assert "wrote the model to models" in output
