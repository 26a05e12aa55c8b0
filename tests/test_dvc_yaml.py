"""dvc.yaml states what a stage depends on, and its commands name the files that they read and write."""

import shlex
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.cli import COMMANDS
from tests.import_graph import ROOT, code_folders

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
NEXT_TO_CORPUS = {"data/raw/corpus.json", "data/raw/documents.npy"}


def paths(entries: list[Any]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_are_the_folders_that_the_stage_imports(name):
    deps = {path for path in paths(STAGES[name]["deps"]) if path.startswith("stages/")}
    assert deps == code_folders(COMMANDS[name][0])
    assert all((ROOT / path).is_dir() for path in deps)


@pytest.mark.parametrize("name", STAGES)
def test_the_command_runs_the_stage_and_names_its_files(name):
    words = shlex.split(STAGES[name]["cmd"])
    assert words[:3] == ["python", "-m", f"stages.{name}"]
    assert "${" not in STAGES[name]["cmd"]
    named = {word for word in words[3:] if not word.startswith("--")}
    files = {path for key in ("deps", "outs", "metrics", "plots") for path in paths(STAGES[name].get(key, []))}
    data = {path for path in files if not path.startswith("stages/")}
    folders = {path.rsplit("/", 1)[0] for path in data} | {"data/raw/corpus.txt"}
    assert all(path in named or path.rsplit("/", 1)[0] in named or path in NEXT_TO_CORPUS for path in data)
    assert named <= data | folders


def test_only_the_download_persists():
    persistent = [
        path for stage in STAGES.values() for out in stage.get("outs", []) if isinstance(out, dict)
        for path, flags in out.items() if flags.get("persist")
    ]  # fmt: skip
    assert persistent == ["data/raw/corpus.txt", "data/raw/corpus.json", "data/raw/documents.npy"]


def test_no_stage_depends_on_the_runtime_section():
    assert not [name for name, stage in STAGES.items() if "runtime" in stage["params"]]


def test_the_file_is_short():
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 130


def test_caches_of_python_are_not_dependencies():
    assert "__pycache__" in (ROOT / ".dvcignore").read_text().split()


def test_every_plot_has_a_title_and_labels():
    definitions = [plot for stage in STAGES.values() for entry in stage.get("plots", []) for plot in entry.values()]
    assert len(definitions) == 3
    for plot in definitions:
        assert plot.keys() >= {"title", "x", "y", "x_label", "y_label"}
    for entry in YAML(typ="safe").load(ROOT / "dvc.yaml")["plots"]:
        assert all(plot.keys() >= {"x", "y", "x_label", "y_label"} for plot in entry.values())  # its name is its title
