"""SIGTERM and SIGINT, to the trainer alone and to the whole group; then the same bits."""

import os
import signal
import time

import pytest

from tests.faults.conftest import KINDS, end

pytestmark = pytest.mark.faults


@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGTERM, False), (signal.SIGINT, True)])
def test_a_signal_saves_a_checkpoint_and_the_next_run_resumes(make_project, number, whole_group):
    project = make_project(
        model=KINDS["gpt with a prior"], runtime={"checkpoint_every_steps": 0, "checkpoint_every_seconds": 1000.0}
    )
    assert project.run()[0] == 0
    whole = project.outputs()
    project.clean()
    process = project.start()
    while not (project.folder / ".scratch").exists() or not list(project.folder.glob(".scratch/*/fingerprint.json")):
        time.sleep(0.01)
    time.sleep(0.5)
    start = time.monotonic()
    (os.killpg if whole_group else os.kill)(process.pid, number)
    _, output = process.communicate(timeout=20)
    assert time.monotonic() - start < 5
    assert process.returncode == 128 + number, output
    assert "stopped by" in output
    assert not (project.folder / "models").exists()
    code, output = project.run()
    assert (code, "resumed at step" in output) == (0, True)
    assert project.outputs() == whole


def test_two_trainers_at_once_the_second_names_the_first(make_project):
    project = make_project(model=KINDS["gpt"], train={"max_steps": 100_000})
    first = project.start()
    project.wait_for_state()
    code, output = project.run()
    assert (code, f"process {first.pid} is already training this model" in output) == (1, True)
    end(first)
    second = project.start()  # the first one's lock was released
    project.wait_for_state(10)
    assert second.poll() is None
    end(second)


def test_the_checkpoint_of_another_run_is_named_and_not_used(make_project):
    project = make_project(model=KINDS["gpt"])
    process = project.start()
    project.wait_for_state(30)
    end(process)
    project.set(model=KINDS["gpt"], train={"lr": 0.01})
    code, output = project.run()
    assert code == 0
    assert "resumed" not in output
    assert "train.lr (0.02 there, 0.01 here)" in output


def test_a_checkpoint_is_found_by_both_ways_to_start_the_stage(make_project):
    project = make_project(model=KINDS["gpt"])
    process = project.start()
    project.wait_for_state(30)
    end(process)
    code, output = project.run("cli", "train")
    assert (code, "resumed at step" in output) == (0, True), output
