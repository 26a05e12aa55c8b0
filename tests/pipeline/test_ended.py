"""A pipeline that is ended, and continues: DVC alone, or after training."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project, wait_until

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(300)]


def test_killed_after_training_but_before_dvc_recorded_it_ends_in_the_same_bits_at_once(project: Project):
    project.set({"train.lr": 0.011, "train.max_steps": 40})
    project.run("dvc", "repro", "train")
    whole = project.stages_in_lock()["train"]
    project.run("git", "checkout", "dvc.lock")  # as if DVC had been killed before it wrote it
    shutil.rmtree(project.folder / ".dvc/cache/runs")
    assert "resumed at step 40" in project.run("dvc", "repro", "train")
    assert project.stages_in_lock()["train"] == whole
    assert "resumed" not in project.run("dvc", "repro", "-f", "train")
    assert project.stages_in_lock()["train"] == whole


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent ended")
@pytest.mark.parametrize(("number", "processes"), [(signal.SIGTERM, 1), (signal.SIGKILL, 2)])
def test_when_dvc_alone_is_ended_training_stops_and_continues_with_the_next_command(
    project: Project, number: signal.Signals, processes: int
):
    # So many steps that the training still runs when a busy machine gets to the signal.
    project.set(
        {"train.lr": 0.012, "train.max_steps": 2000 // processes, "train.processes": processes, "train.batch_size": 2}
    )
    project.set({"runtime.checkpoint_every_steps": 5})
    dvc = subprocess.Popen(
        ["dvc", "repro", "train"], cwd=project.folder, env=project.environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: any(is_of_a_running_training(path) for path in project.folder.glob(".scratch/*/checkpoint")))
    dvc.send_signal(number)
    dvc.wait(60)
    try:  # torchrun gives its processes 30 s to end, and as long again after it has killed them
        wait_until(lambda: not trainers_in(project.folder), seconds=120)
    except AssertionError:
        pytest.fail(f"still running: {trainers_in(project.folder)}")
    assert re.search(r"resumed at step [1-9]", project.run("dvc", "repro", "train"))


def is_of_a_running_training(checkpoint: Path) -> bool:
    """Return whether a checkpoint is not the one that is kept until DVC has recorded a finished model."""
    return not checkpoint.with_name("finished").exists()


def trainers_in(folder: Path) -> dict[int, str]:
    """Return the processes that train in a folder, with their commands and states."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            place = (process / "cwd").readlink()
            state = (process / "status").read_text().splitlines()[2]
        except OSError:
            continue
        if "stages.train" in command and place == folder:
            found[int(process.name)] = f"{command}({state})"
    return found
