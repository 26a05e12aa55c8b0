"""A finished run of a small model in a fresh clone, made once for all tests, and helpers.

Every test that changes something works in a copy of it.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from tests.small_project import copy_work_tree

ROOT = Path(__file__).parents[2]
OWN = Path("data/own/words.txt")
RNG = Random(1337)
TEXT = "".join("".join(RNG.choices("aeinorst    \n", k=6)) + " " for _ in range(800))
SONG = "".join(f"{count} green bottles hanging on the wall\n" for count in range(99, 0, -1))  # hardly a rare n-gram
SMALL: dict[str, object] = {
    "compute.device": "cpu",
    "compute.threads": 1,
    "download.corpus": "own",
    "model.kind": "gpt",
    "model.block_size": 16,
    "model.n_layer": 1,
    "model.n_head": 2,
    "model.n_embd": 16,
    "train.max_steps": 20,
    "train.batch_size": 1,
    "train.warmup_steps": 2,
    "train.eval_every": 10,
    "train.eval_windows": 4,
    "evaluate.batch_size": 256,
    "sample.num_samples": 1,
    "sample.max_new_tokens": 20,
}
ALL = ["download", "tokenize", "train", "evaluate", "sample", "report"]


@dataclass
class Project:
    """A clone and the environment that its commands run in."""

    folder: Path
    environment: dict[str, str]

    def attempt(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=250,
            check=False,
        )

    def run(self, *command: str, **environment: str) -> str:
        """Run a command that must succeed; return its output."""
        done = self.attempt(*command, **environment)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout

    def repro(self, *options: str, **environment: str) -> list[str]:
        """Run `dvc repro`; return the stages that ran, not those restored from the run cache."""
        return re.findall(r"^Running stage '(\w+)'", self.run("dvc", "repro", *options, **environment), re.MULTILINE)

    def read(self, path: str | Path) -> str:
        return (self.folder / path).read_text()

    def edit(self, path: str | Path, change: Callable[[str], str]) -> None:
        before = self.read(path)
        after = change(before)
        assert after != before, path
        (self.folder / path).write_text(after)

    def set(self, values: dict[str, object]) -> None:
        """Set keys of params.yaml."""
        yaml = YAML()
        params = yaml.load(self.read("params.yaml"))
        for name, value in values.items():
            section, key = name.split(".")
            params[section][key] = value
        yaml.dump(params, self.folder / "params.yaml")

    def stages_in_lock(self) -> dict[str, object]:
        stages: dict[str, object] = YAML(typ="safe").load(self.read("dvc.lock"))["stages"]
        return stages

    def copied_to(self, folder: Path) -> "Project":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder, self.environment)


def clean_environment(home: Path) -> dict[str, str]:
    """Return an environment in which this Python's `dvc` and `python` run and no setting of the user's counts."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "DVC_", "FOLIO_", "XDG_"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    changed = {"PATH": path, "HOME": str(home), "DVC_SITE_CACHE_DIR": str(home / "site"), "no_proxy": "127.0.0.1"}
    return kept | changed


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Clone the working tree, run a small pipeline and commit it; tests must not change it.

    The processes of pytest-xdist share it.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    base /= "pipeline"
    project = Project(base / "finished", clean_environment(base))
    with FileLock(base.with_suffix(".lock")):
        if not (base / "done").exists():
            shutil.rmtree(base, ignore_errors=True)
            run_and_commit(project)
            (base / "done").touch()
    return project


def run_and_commit(project: Project) -> None:
    """Copy the working tree, run a small pipeline there, and commit it."""
    copy_work_tree(project.folder)
    (project.folder / OWN).write_text(TEXT)
    project.set(SMALL)
    project.run("git", "init", "--quiet")
    project.run("git", "config", "user.name", "Tester")
    project.run("git", "config", "user.email", "tester@example.org")
    assert project.repro(PYTHONHASHSEED="1") == ALL
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "a small run")


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """Return a copy of the finished run that a test may change."""
    return finished.copied_to(tmp_path / "project")


@pytest.fixture(scope="module")
def faster(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Copy the finished run and train it with another learning rate; tests must not change it."""
    project = finished.copied_to(tmp_path_factory.mktemp("faster") / "project")
    project.set({"train.lr": 0.05})
    assert project.repro() == ["train", "evaluate", "sample", "report"]
    return project


def register_corpus(project: Project, text: str) -> None:
    """Make `text` the one that is known as tinyshakespeare: kept in texts/, and on a port where nothing listens."""
    sum_ = hashlib.sha256(text.encode()).hexdigest()
    known = f'replace(TINYSHAKESPEARE, url="http://127.0.0.1:1/input.txt", sha256="{sum_}")'
    code = f"\n\nfrom dataclasses import replace\n\nTINYSHAKESPEARE = {known}\n"
    project.edit("stages/download/corpora.py", lambda before: before + code)
    mirrored = project.folder / "texts/tinyshakespeare/input.txt"
    mirrored.parent.mkdir(parents=True)
    mirrored.write_text(text)


def experiments_of(project: Project) -> dict[str, Any]:
    """Return what `dvc exp show` knows of every experiment on the last commit, by name."""
    (commit,) = (row for row in json.loads(project.run("dvc", "exp", "show", "--json")) if row["rev"] != "workspace")
    found = {entry["name"]: entry["revs"][0]["data"] for entry in commit["experiments"]}
    assert all(found.values()), commit
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
