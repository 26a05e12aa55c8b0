"""Disks that are full, files that may not be written, numbers that are none: one line, and nothing half-written."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from tests.faults.conftest import KINDS
from tests.import_graph import ROOT

pytestmark = pytest.mark.faults


def run_with_file_limit(project, stage: str, limit: int) -> tuple[int, str]:
    """Run a stage that may write no file beyond a size, as on a disk with so much left."""

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    words = ["--output", "reports/samples.txt"] if stage == "sample" else []
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", *words],
        cwd=project.folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        preexec_fn=limited,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(("stage", "limit"), [("encode", 10_000), ("train", 1000), ("evaluate", 100), ("sample", 9)])
def test_a_full_disk_is_one_line_and_leaves_no_half_file(make_project, stage, limit):
    project = make_project(
        model=KINDS["bigram"], train={"max_steps": 5, "checkpoint_steps": 1000}, sample={"prompt": "the"}
    )
    if stage in ("evaluate", "sample"):
        assert project.run()[0] == 0
    before = {
        path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file() and "logs" not in path.parts
    }
    code, said = run_with_file_limit(project, stage, limit)
    assert code == 1, said
    assert "Traceback" not in said
    assert "File too large" in said.splitlines()[-1]
    after = {path for path in project.folder.rglob("*") if path.is_file() and "logs" not in path.parts}
    assert not [path for path in after if path.name.startswith(".")]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_a_loss_that_is_no_number_keeps_the_last_state(make_project):
    project = make_project(
        model=KINDS["bigram"], train={"optimizer": "adamw", "lr": 1e37, "warmup_steps": 0, "checkpoint_steps": 1}
    )
    code, said = project.run()
    assert code == 1
    assert "at step " in said
    assert "try a smaller train.lr" in said
    assert not (project.folder / "models").exists()
