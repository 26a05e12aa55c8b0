"""dvc.yaml tells the truth: what a stage depends on, and that its commands show what they read and write."""

import shlex
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.cli import COMMANDS
from tests.import_graph import ROOT, closure, code_folders

STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def paths(entries: list[Any]) -> list[str]:
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


@pytest.mark.parametrize("name", STAGES)
def test_code_deps_are_exactly_the_folders_that_the_stage_imports(name):
    code = {path for path in paths(STAGES[name]["deps"]) if path.startswith("stages/")}
    assert code == code_folders(COMMANDS[name][0])


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_imports_another(name):
    others = {module for other, (module, _) in COMMANDS.items() if other != name}
    assert not closure({COMMANDS[name][0]}) & others


BESIDE = {"data/raw/corpus.json", "data/raw/documents.npy"}  # the corpus, which the command names


@pytest.mark.parametrize("name", STAGES)
def test_the_command_runs_the_stage_s_module_and_shows_its_files(name):
    words = shlex.split(STAGES[name]["cmd"])
    assert words[:3] == ["python", "-m", COMMANDS[name][0].removesuffix(".command")]
    assert "${" not in STAGES[name]["cmd"]
    shown = {word for word in words[3:] if not word.startswith("--")}
    files = {path for key in ("deps", "outs", "metrics", "plots") for path in paths(STAGES[name].get(key, []))}
    data = {path for path in files if not path.startswith("stages/")}
    folders = {path.rsplit("/", 1)[0] for path in data} | {"data/raw/corpus.txt"}
    assert all(path in shown or path.rsplit("/", 1)[0] in shown or path in BESIDE for path in data)
    assert shown <= data | folders


def test_only_the_download_persists():
    persistent = [
        path for stage in STAGES.values() for out in stage.get("outs", []) if isinstance(out, dict)
        for path, flags in out.items() if flags.get("persist")
    ]  # fmt: skip
    assert persistent == ["data/raw/corpus.txt", "data/raw/corpus.json", "data/raw/documents.npy"]
