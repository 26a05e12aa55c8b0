"""The package as it would be published: built, checked, and used outside a clone, in an environment of its own."""

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import make_text
from tests.small_project import SMALL, copy_work_tree

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(400)]


def run(*command: str | Path, cwd: Path, path: Path | None = None) -> str:
    """Run a command that must succeed, with a folder of programs before all others; return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PATH"] = f"{path}:{environment['PATH']}" if path else environment["PATH"]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_project_from_the_wheel_runs_the_pipeline(tmp_path: Path):
    pytest.importorskip("build")
    pytest.importorskip("twine")
    copy_work_tree(tmp_path / "source")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", cwd=tmp_path / "source")
    files = sorted((tmp_path / "dist").iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    run(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=tmp_path)

    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "env", cwd=tmp_path)
    programs = tmp_path / "env/bin"
    pip = (sys.executable, "-m", "pip", "--python", programs / "python", "install", "-q")
    run(*pip, "--no-deps", "--no-index", files[0], cwd=tmp_path)
    # Its requirements are those of this environment; a path in a .pth file does not bring Folio's own clone along.
    site = Path(
        run(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    )
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib") + "\n")

    run(programs / "folio", "new", "project", cwd=tmp_path, path=programs)
    project = tmp_path / "project"
    installed = run(programs / "python", "-c", "import stages; print(stages.__file__)", cwd=tmp_path)
    assert Path(installed.strip()).is_relative_to(site)
    document = YAML().load(project / "params.yaml")
    for section, values in (SMALL | {"download": {"corpus": "own"}}).items():
        document[section].update(values)
    YAML().dump(document, project / "params.yaml")
    (project / "data/own/text.txt").write_text(make_text(3000))
    run(programs / "python", "-m", "dvc", "repro", "-q", cwd=project, path=programs)
    assert json.loads((project / "reports/metrics.json").read_text())["val_loss"] < 2
    assert (project / "reports/report.html").exists()
    tracked = run("git", "status", "--short", "--untracked-files=all", cwd=project)
    assert "?? models/" not in tracked
    assert "?? dvc.lock" in tracked
