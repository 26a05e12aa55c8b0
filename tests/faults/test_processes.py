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

from tests.conftest import model_params
from tests.faults.conftest import Project
from tests.import_graph import ROOT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(200)]

KIND: dict[str, object] = {"kind": "gpt", "prior": "kneser_ney", "recent": True, "dropout": 0.0}
TRAIN: dict[str, object] = {"max_steps": 60, "batch_size": 4, "eval_every": 10, "checkpoint_steps": 5}
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
        code, said = project.run()
        assert code == 0, said
        assert said.count("holds the model") == 1
        curves[processes] = curve(project)
        assert (
            json.loads((project.folder / "models/config.json").read_text())["training"]["environment"]["processes"]
            == processes
        )
    np.testing.assert_allclose(curves[2], curves[1], atol=1e-4)
    np.testing.assert_allclose(curves[4], curves[1], atol=1e-4)


def test_whole_batches_are_shared_out_where_windows_cannot_be(make_project: Callable[..., Project]):
    project = make_project(compute=EXACT, model=KIND, train=TRAIN | {"batch_size": 1, "accumulate": 4})
    assert project.run()[0] == 0
    alone = curve(project)
    project.set(compute=EXACT, model=KIND, train=TRAIN | {"batch_size": 1, "accumulate": 4, "processes": 2})
    project.clean()
    assert project.run()[0] == 0
    np.testing.assert_allclose(curve(project), alone, atol=1e-4)
    project.set(train={"batch_size": 1, "accumulate": 3, "processes": 2})
    code, said = project.run()
    assert code == 2
    assert "2 processes cannot share either evenly" in said


@pytest.mark.parametrize(("model", "train"), [({"dropout": 0.1}, {}), ({}, {"shard": True})], ids=["whole", "in parts"])
def test_a_killed_worker_is_replaced_and_the_end_is_the_same(
    make_project: Callable[..., Project], model: dict[str, object], train: dict[str, object]
):
    changed = TRAIN | {"processes": 2, "max_steps": 600} | train
    project = make_project(compute=EXACT, model=KIND | model, train=changed)
    assert project.run()[0] == 0
    whole = project.outputs()
    project.clean()
    process = project.start()
    project.wait_for_state(100)
    os.kill(max(workers(project)), signal.SIGKILL)
    _, said = process.communicate(timeout=100)
    assert process.returncode == 0, said
    assert "resumed at step" in said
    assert project.outputs() == whole


def test_a_model_in_parts_learns_as_a_whole_one(make_project: Callable[..., Project]):
    train = TRAIN | {"max_steps": 30, "average": 0.5, "keep": "best", "clip_norm": 1.0, "batch_size": 6}
    project = make_project(compute=EXACT, model=KIND, train=train)
    assert project.run()[0] == 0
    alone = curve(project)
    for processes in (2, 3):  # of three parts, some are smaller
        project.set(compute=EXACT, model=KIND, train=train | {"processes": processes, "shard": True})
        project.clean()
        code, said = project.run()
        assert code == 0, said
        np.testing.assert_allclose(curve(project), alone, atol=1e-4)
    code, said = project.run("evaluate")  # it is whole again
    assert code == 0, said


PARTS = """
import json, sys
from pathlib import Path
import torch
import torch.distributed as dist
from stages.models.base import build
from stages.models.params import ModelParams
from stages.train.sharding import gathered, shard

dist.init_process_group("gloo")
torch.manual_seed(1)
model = build(ModelParams.model_validate(json.loads(sys.argv[1])), 65)
before = {name: each.detach().clone() for name, each in model.named_parameters()}
shard(model, torch.device("cpu"))
mine = sum(each.to_local().numel() for each in model.parameters()) / sum(map(torch.numel, before.values()))
again = gathered(dict(model.named_parameters()), keep=True)
assert all(torch.equal(again[name], each) for name, each in before.items())
Path(f"part-{dist.get_rank()}").write_text(str(mine))
dist.destroy_process_group()
"""


def test_each_process_holds_its_part_of_every_weight(tmp_path: Path):
    params = model_params(n_layer=2, n_head=4, n_embd=64, block_size=32)
    (tmp_path / "parts.py").write_text(PARTS)
    command = ["torchrun", "--standalone", "--nproc-per-node", "4", "parts.py", params.model_dump_json()]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    parts = [float((tmp_path / f"part-{rank}").read_text()) for rank in range(4)]
    assert sum(parts) == pytest.approx(1)
    assert max(parts) < 0.26


def test_a_stopped_run_of_two_goes_on(make_project: Callable[..., Project]):
    project = make_project(compute=EXACT, model=KIND, train=TRAIN | {"processes": 2, "max_steps": 600})
    process = project.start()
    project.wait_for_state(50)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    assert not workers(project)
    code, said = project.run()
    assert code == 0, said
    step = re.search(r"resumed at step (\d+)", said)
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
