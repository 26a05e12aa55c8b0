"""Several processes: the same curve as one, a killed one, a stopped run."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.faults.conftest import Project
from tests.import_graph import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(200)]

KIND: dict[str, object] = {"kind": "gpt", "prior": "kneser_ney", "cache_lm": True, "dropout": 0.0}
TRAIN: dict[str, object] = {"max_steps": 60, "batch_size": 4, "eval_every": 10}
RUNTIME: dict[str, object] = {"checkpoint_every_steps": 5}
EXACT: dict[str, object] = {"threads": 1, "precision": "float32"}


def curve(project: Project) -> np.ndarray:
    return np.loadtxt(project.folder / "reports/train.tsv", skiprows=1)[:, 2:4]


def trained(project: Project) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((project.folder / "models/config.json").read_text())["training"]
    return about


def workers(project: Project) -> list[int]:
    """Find the processes that train in a folder, the launcher and torchrun not counted."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            there = (path / "cwd").readlink() == project.folder
            if there and b"\0RANK=" in (path / "environ").read_bytes():
                found.append(int(path.name))
        except OSError:
            continue
    return found


def test_two_and_four_processes_give_the_curve_of_one(make_project: Callable[..., Project]):
    project = make_project(compute=EXACT, model=KIND, train=TRAIN)
    curves = {}
    for processes in (1, 2, 4):
        project.set(compute=EXACT, model=KIND, train=TRAIN | {"processes": processes})
        project.clean()
        code, output = project.run()
        assert code == 0, output
        assert output.count("wrote the model") == 1
        curves[processes] = curve(project)
        assert (
            json.loads((project.folder / "models/config.json").read_text())["training"]["environment"]["processes"]
            == processes
        )
    np.testing.assert_allclose(curves[2], curves[1], atol=1e-4)
    np.testing.assert_allclose(curves[4], curves[1], atol=1e-4)


def test_whole_batches_are_distributed_if_windows_cannot_be(make_project: Callable[..., Project]):
    project = make_project(compute=EXACT, model=KIND, train=TRAIN | {"batch_size": 1, "grad_accum_steps": 4})
    assert project.run()[0] == 0
    alone = curve(project)
    project.set(compute=EXACT, model=KIND, train=TRAIN | {"batch_size": 1, "grad_accum_steps": 4, "processes": 2})
    project.clean()
    assert project.run()[0] == 0
    np.testing.assert_allclose(curve(project), alone, atol=1e-4)
    project.set(train={"batch_size": 1, "grad_accum_steps": 3, "processes": 2})
    code, output = project.run()
    assert code == 2
    assert "2 processes cannot share either evenly" in output


def test_wrong_input_is_reported_once_before_processes_start(make_project: Callable[..., Project]):
    project = make_project(compute=EXACT, model=KIND, train=TRAIN)
    assert project.run()[0] == 0
    wider = KIND | {"n_embd": 32}
    project.set(compute=EXACT, model=wider, train=TRAIN | {"processes": 2, "init_from": "models"})
    code, output = project.run()
    assert code == 2, output
    assert output.count("train.init_from has a model of another architecture (model.n_embd is 16 there, 32 here") == 1
    assert "Traceback" not in output


def test_a_killed_worker_is_replaced_and_the_end_is_the_same(make_project: Callable[..., Project]):
    model, train = KIND | {"dropout": 0.1}, TRAIN | {"processes": 2, "max_steps": 600}
    project = make_project(compute=EXACT, model=model, train=train, runtime=RUNTIME)
    assert project.run()[0] == 0
    whole = project.outputs()
    project.clean()
    process = project.start()
    project.wait_for_state(100)
    os.kill(max(workers(project)), signal.SIGKILL)
    _, output = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert "resumed at step" in output
    assert project.outputs() == whole


def test_averaging_clipping_and_the_best_weights_work_in_processes(make_project: Callable[..., Project]):
    train = TRAIN | {"max_steps": 30, "ema_decay": 0.5, "keep": "best", "grad_clip": 1.0, "batch_size": 6}
    project = make_project(compute=EXACT, model=KIND, train=train, runtime=RUNTIME)
    assert project.run()[0] == 0
    alone = curve(project)
    project.set(compute=EXACT, model=KIND, train=train | {"processes": 3}, runtime=RUNTIME)
    project.clean()
    code, output = project.run()
    assert code == 0, output
    np.testing.assert_allclose(curve(project), alone, atol=1e-4)


def test_a_stopped_run_of_two_processes_resumes(make_project: Callable[..., Project]):
    train = TRAIN | {"processes": 2, "max_steps": 600}
    project = make_project(compute=EXACT, model=KIND, train=train, runtime=RUNTIME)
    process = project.start()
    project.wait_for_state(50)
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 143, output
    assert not workers(project)
    code, output = project.run()
    assert code == 0, output
    step = re.search(r"resumed at step (\d+)", output)
    assert step
    assert int(step[1]) >= 50


def test_torchrun_itself_may_start_it(make_project: Callable[..., Project]):
    project = make_project(compute=EXACT, model=KIND, train=TRAIN)
    assert project.run()[0] == 0
    alone = curve(project)
    project.clean()
    command = ["torchrun", "--standalone", "--nproc-per-node", "2", "-m", "stages.train"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    subprocess.run(command, cwd=project.folder, env=environment, check=True, capture_output=True)
    np.testing.assert_allclose(curve(project), alone, atol=1e-4)
