"""A small project in a folder, whose trainer takes a few seconds, to be damaged."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from safetensors.torch import load

from stages.train.checkpoint import DIGEST_BYTES
from tests.conftest import make_text
from tests.import_graph import ROOT
from tests.small_project import SMALL_MODEL, SMALL_TRAIN

KINDS = {
    "bigram": {"kind": "bigram"},
    "gpt": {"kind": "gpt", "prior": "none"},
    "gpt with a prior": {"kind": "gpt", "prior": "kneser_ney", "cache_lm": True},
}
SMALL = {
    "compute": {"threads": 1, "precision": "float32"},  # the same on every processor
    "model": SMALL_MODEL,
    "train": SMALL_TRAIN | {"max_steps": 400, "batch_size": 2, "eval_every": 50},
    "runtime": {"log_every": 10, "checkpoint_every_steps": 3},
}


@dataclass
class Project:
    """A folder with tokens and params.yaml, where the train stage can be run and interrupted."""

    folder: Path

    def set(self, **sections: dict[str, object]) -> None:
        """Write params.yaml: the repository's, with small values and some keys changed."""
        document = YAML().load(ROOT / "params.yaml")
        for changes in (SMALL, sections):
            for section, values in changes.items():
                document[section].update(values)
        YAML().dump(document, self.folder / "params.yaml")

    def start(self, stage: str = "train", *words: str) -> subprocess.Popen[str]:
        """Start a stage in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", f"stages.{stage}", *words],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, stage: str = "train", *words: str) -> tuple[int, str]:
        """Run a stage to its end; return its exit code and standard error."""
        process = self.start(stage, *words)
        _, output = process.communicate(timeout=100)
        return process.returncode, output

    def wait_for_state(self, steps: int = 1) -> None:
        """Wait until a running trainer has saved a state of at least so many steps."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            if self.saved_step() >= steps:
                return
            time.sleep(0.002)
        raise TimeoutError

    def saved_step(self) -> int:
        """Return the step of the checkpoint, or 0 if there is none."""
        steps = [0]
        for path in self.folder.glob(".scratch/*/checkpoint"):
            state = load(path.read_bytes()[DIGEST_BYTES:])
            steps.append(json.loads(bytes(state["progress"].tolist()))["step"])
        return max(steps)

    def outputs(self) -> dict[str, str]:
        """Return the sha256 of every file of the model, and of the curve."""
        paths = [*sorted((self.folder / "models").glob("*")), self.folder / "reports/train.tsv"]
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    def clean(self) -> None:
        """Do as DVC does before it runs the stage: delete its outs."""
        shutil.rmtree(self.folder / "models", ignore_errors=True)
        (self.folder / "reports/train.tsv").unlink(missing_ok=True)


def end(process: subprocess.Popen[str]) -> str:
    """Kill the process and all that it started; return its output."""
    os.killpg(process.pid, signal.SIGKILL)
    return process.communicate(timeout=30)[1]


@pytest.fixture
def make_project(tmp_path: Path) -> Callable[..., Project]:
    def make(**sections: dict[str, object]) -> Project:
        project = Project(tmp_path)
        project.set(**sections)
        (tmp_path / "data/raw").mkdir(parents=True)
        (tmp_path / "data/raw/corpus.txt").write_text(make_text(4000))
        assert project.run("tokenize")[0] == 0
        return project

    return make
