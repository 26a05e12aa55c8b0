"""Training beside other processes gives the bits of a calm machine."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.faults.conftest import Project

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


def test_busy_loops_beside_a_training_change_no_bit(make_project: Callable[..., Project]):
    threads = len(os.sched_getaffinity(0))
    model: dict[str, object] = {"n_embd": 64, "n_layer": 2, "block_size": 128, "sliding_window": 32}
    project = make_project(compute={"threads": threads}, model=model, train={"max_steps": 60, "eval_every": 30})
    results = []
    for loops in (0, 2 * threads):
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
        try:
            code, output = project.run()
        finally:
            for other in others:
                other.kill()
                other.wait()
        assert code == 0, output
        results.append(project.outputs())
        project.clean()
    assert results[0] == results[1]
