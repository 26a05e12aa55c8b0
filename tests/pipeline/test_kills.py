"""`dvc repro` killed at random moments and in every way: the next one continues and ends with the same bits.

FOLIO_KILLS is the number of kills, FOLIO_SEED that of their schedule.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.pipeline.conftest import Project, wait_until
from tests.pipeline.test_ended import is_of_a_running_training, trainers_in

KILLS = int(os.environ.get("FOLIO_KILLS", "6"))
SEED = int(os.environ.get("FOLIO_SEED", "1"))
WAYS = ("the trainer", "one of two workers", "DVC and all it started", "DVC alone", "after training", "two, DVC alone")
STEPS = 200

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.timeout(300 + 60 * KILLS),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent ended"),
]


@pytest.fixture(scope="module")
def untrained(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Project]:
    """Return, for one and for two processes, a project whose training has not begun, and what it should end with."""
    projects = {}
    for processes in (1, 2):
        project = finished.copied_to(tmp_path_factory.mktemp("untrained") / "project")
        project.set({
            "train.max_steps": STEPS, "train.batch_size": 2, "train.processes": processes,
            "runtime.checkpoint_every_steps": 5, "runtime.log_every": 5,
        })  # fmt: skip
        projects[processes] = project
    return projects


@pytest.fixture(scope="module")
def expected(untrained: dict[int, Project]) -> dict[int, object]:
    """Return what dvc.lock says of a training that nobody stopped."""
    results = {}
    for processes, project in untrained.items():
        whole = project.copied_to(project.folder.with_name("whole"))
        whole.run("dvc", "repro", "train")
        results[processes] = whole.stages_in_lock()["train"]
    return results


def trainer_ids(folder: Path) -> list[int]:
    """Return the processes that train in a folder, not torchrun."""
    return sorted(pid for pid, command in trainers_in(folder).items() if "torch.distributed.run" not in command)


def has_checkpoint(folder: Path) -> bool:
    """Return whether a training in a folder has saved a checkpoint."""
    return any(map(is_of_a_running_training, folder.glob(".scratch/*/checkpoint")))


def wait_for(dvc: "subprocess.Popen[bytes]", condition: Callable[[], bool]) -> None:
    """Wait until a condition holds or DVC has ended."""
    wait_until(lambda: dvc.poll() is not None or condition())


def kill(dvc: "subprocess.Popen[bytes]", way: str, folder: Path, draw: random.Random) -> bool:
    """Kill a running `dvc repro`, or a part of it, with a signal that cannot be caught; return whether it was there."""
    found = dvc.poll() is None
    if way in ("the trainer", "one of two workers"):
        workers = trainer_ids(folder)
        # With two processes, the first one started torchrun, and the others are the workers.
        victims = workers if way == "the trainer" else workers[1:]
        found = bool(victims)
        if victims:
            os.kill(draw.choice(victims), signal.SIGKILL)
        dvc.wait(120)
    elif way in ("DVC alone", "two, DVC alone"):
        dvc.kill()
        dvc.wait(60)
    else:
        os.killpg(dvc.pid, signal.SIGKILL)
        dvc.wait(60)
    wait_until(lambda: not trainer_ids(folder))
    return found


def test_every_kill_is_followed_by_a_run_that_continues_and_ends_with_the_same_bits(
    untrained: dict[int, Project], expected: dict[int, object], tmp_path: Path
):
    draw = random.Random(SEED)
    counts: Counter[str] = Counter()
    for number in range(KILLS):
        way = WAYS[number % len(WAYS)]
        processes = 2 if "two" in way else 1
        project = untrained[processes].copied_to(tmp_path / "project")
        dvc = subprocess.Popen(
            ["dvc", "repro", "train"], cwd=project.folder, env=project.environment, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(dvc, partial(has_checkpoint, project.folder))
        if way == "after training":
            wait_for(dvc, (project.folder / "models/manifest.json").exists)
            time.sleep(draw.uniform(0, 1))
        else:
            time.sleep(draw.uniform(0, 2))
        had_ended = not kill(dvc, way, project.folder, draw)
        output = project.run("dvc", "repro", "train")
        continued = re.search(r"resumed at step [1-9]\d*|Stage 'train' (didn't change|is cached)", output) or [""]
        assert continued[0], f"kill {number}, {way}: began anew\n{output}"
        assert project.stages_in_lock()["train"] == expected[processes], f"kill {number}, {way}"
        counts["too late" if had_ended else way] += 1
        print(f"kill {number + 1} of {KILLS}, {way}{' (too late)' if had_ended else ''}: {continued[0]}", flush=True)
        shutil.rmtree(project.folder)
    assert counts["too late"] <= KILLS / 3
    print(f"seed {SEED}: {KILLS} kills, {dict(counts)}: all ended with the same bits")
