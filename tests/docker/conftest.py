"""A container engine, the image built from the working tree, and a small project to mount."""

import hashlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import make_text
from tests.import_graph import ROOT
from tests.small_project import SMALL_MODEL, SMALL_TRAIN, copy_work_tree

# A machine may have a newer client as well, for engines newer than the one that its distribution runs.
CLIENT = os.environ.get("DOCKER") or shutil.which("docker", path="/usr/bin") or shutil.which("docker") or "docker"
USER = 4321  # a user that no image knows
SMALL: dict[str, dict[str, object]] = {
    "compute": {"threads": 1},
    "download": {"corpus": "own"},
    "model": SMALL_MODEL,
    "train": SMALL_TRAIN | {"max_steps": 1500, "batch_size": 2, "eval_every": 500},
    "runtime": {"log_every": 10, "checkpoint_every_seconds": 0.2},
    "sample": {"num_samples": 1, "max_new_tokens": 20},
}


def docker(*arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the client and return its output in `stdout`."""
    return subprocess.run(
        [CLIENT, *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout,
        check=False,
    )


@dataclass
class Project:
    """A clone on this machine that containers work in."""

    folder: Path

    def run(self, *command: str, options: tuple[str, ...] = (), user: int = USER) -> subprocess.CompletedProcess[str]:
        """Run a container to its end."""
        return docker("run", "--rm", *self._mounted(user), *options, "folio:cpu", *command)

    def start(self, name: str) -> None:
        """Start a container and leave it running."""
        done = docker("run", "-d", "--name", name, *self._mounted(USER), "folio:cpu")
        assert done.returncode == 0, done.stdout

    def _mounted(self, user: int) -> list[str]:
        return ["--user", f"{user}:{user}", "--network", "none", "-v", f"{self.folder}:/workspace"]

    def set(self, **sections: dict[str, object]) -> None:
        """Change keys of params.yaml."""
        path = self.folder / "params.yaml"
        document = YAML().load(path)
        for section, values in sections.items():
            document[section].update(values)
        YAML().dump(document, path)

    def model(self) -> str:
        """Return the sum of the finished weights."""
        return hashlib.sha256((self.folder / "models/model.safetensors").read_bytes()).hexdigest()

    def copy(self, folder: Path) -> "Project":
        """Copy everything, owners as well."""
        subprocess.run(["cp", "-a", self.folder, folder], check=True)
        return Project(folder)


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Skip everything here, loudly, where no engine answers."""
    if not shutil.which(CLIENT) or docker("info").returncode:
        pytest.skip(f"no Docker engine answers '{CLIENT} info': nothing of the container was tested")


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    """Build folio:cpu from what is here."""
    built = subprocess.run(
        [ROOT / "docker/build", "cpu"],
        env=os.environ | {"DOCKER": CLIENT},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-3000:]
    return "folio:cpu"


@pytest.fixture(scope="session")
def fresh(image: str, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a committed clone with a small text and model that belongs to USER; not to be changed."""
    project = Project(tmp_path_factory.mktemp("docker") / "fresh")
    copy_work_tree(project.folder)
    project.set(**SMALL)
    (project.folder / "data/own/words.txt").write_text(make_text(4000))
    subprocess.run(["git", "init", "-q"], cwd=project.folder, check=True)
    subprocess.run(["git", "add", "-A"], cwd=project.folder, check=True)
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", *identity, "commit", "-qm", "small"], cwd=project.folder, check=True)
    subprocess.run(["chown", "-R", f"{USER}:{USER}", project.folder], check=True)
    for folder in (project.folder, *list(project.folder.parents)[:3]):
        folder.chmod(0o755)
    return project


@pytest.fixture(scope="session")
def finished(fresh: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return that clone after an uninterrupted run; not to be changed."""
    project = fresh.copy(tmp_path_factory.mktemp("finished") / "project")
    done = project.run()
    assert done.returncode == 0, done.stdout
    return project


def wait_for(text: str, name: str) -> None:
    """Wait until a container has printed something."""
    end = time.monotonic() + 120
    while text not in docker("logs", name).stdout:
        assert time.monotonic() < end, docker("logs", name).stdout
        time.sleep(0.1)
