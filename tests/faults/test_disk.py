"""Full disks, read-only folders and losses that are NaN: one line of error, and no partial file."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.faults.conftest import KINDS, Project
from tests.import_graph import ROOT

pytestmark = pytest.mark.faults


def run_with_file_limit(project, stage: str, limit: int) -> tuple[int, str]:
    """Run a stage with a limit on the size of files, as on a nearly full disk."""

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


@pytest.mark.parametrize(("stage", "limit"), [("tokenize", 10_000), ("train", 1000), ("evaluate", 100), ("sample", 9)])
def test_a_full_disk_is_reported_in_one_line_and_leaves_no_partial_file(make_project, stage, limit):
    project = make_project(
        model=KINDS["bigram"],
        train={"max_steps": 5},
        runtime={"checkpoint_every_steps": 1000},
        sample={"prompt": "the"},
    )
    if stage in ("evaluate", "sample"):
        assert project.run()[0] == 0
    before = {
        path: path.read_bytes() for path in project.folder.rglob("*") if path.is_file() and "logs" not in path.parts
    }
    code, output = run_with_file_limit(project, stage, limit)
    assert code == 1, output
    assert "Traceback" not in output
    assert "File too large" in output.splitlines()[-1]
    after = {path for path in project.folder.rglob("*") if path.is_file() and "logs" not in path.parts}
    assert not [path for path in after if path.name.startswith(".")]
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.fixture
def small_disk(make_project) -> Iterator[Project]:
    """A project whose outputs lie on a disk of its own, of 64 KB."""
    project = make_project(model=KINDS["gpt"], train={"max_steps": 30})
    (project.folder / "models").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", project.folder / "models"], check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk, outside a container that forbids it")
    yield project
    subprocess.run(["umount", project.folder / "models"], check=True)


def test_a_full_small_disk_is_reported_in_one_line_and_leaves_no_partial_model(small_disk):
    (small_disk.folder / "models/other").write_bytes(b"x" * 60_000)
    code, output = small_disk.run()
    assert (code, output.splitlines()[-1].startswith("Error: No space left on device")) == (1, True), output
    assert [path.name for path in (small_disk.folder / "models").iterdir()] == ["other"]
    (small_disk.folder / "models/other").unlink()
    code, output = small_disk.run()  # the checkpoint was kept, so training resumes
    assert (code, "resumed at step" in output) == (0, True)


def test_an_unwritable_folder_is_reported_in_one_line(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk.folder / "models"], check=True)
    code, output = small_disk.run()
    assert (code, output.splitlines()[-1].startswith("Error: Read-only file system")) == (1, True), output


def test_a_nan_loss_keeps_the_last_checkpoint(make_project):
    project = make_project(
        model=KINDS["bigram"],
        train={"optimizer": "adamw", "lr": 1e37, "warmup_steps": 0},
        runtime={"checkpoint_every_steps": 1},
    )
    code, output = project.run()
    assert code == 1
    assert "at step " in output
    assert "Try a smaller train.lr" in output
    assert not (project.folder / "models").exists()
