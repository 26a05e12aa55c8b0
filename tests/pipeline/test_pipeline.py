"""The pipeline as DVC runs it: what runs again and what does not, versions, and what users read."""

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from ruamel.yaml import YAML

from tests.pipeline.conftest import ALL, OWN, ROOT, SONG, TEXT, Project
from tests.readme import blocks

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(300)]  # a shared machine may be several times slower


def test_a_run_leaves_a_model_metrics_and_samples(finished: Project):
    assert {path.name for path in (finished.folder / "models").iterdir()} >= {"model.safetensors", "config.json"}
    assert json.loads(finished.read("reports/metrics.json"))["val_loss"] > 0
    assert len(finished.read("reports/samples.txt")) > 20
    assert finished.run("git", "status", "--porcelain") == ""


def test_a_second_run_runs_nothing_and_changes_nothing(project: Project):
    assert "up to date" in project.run("dvc", "repro")
    assert project.run("git", "status", "--porcelain") == ""


def test_a_forced_run_gives_the_same_bits(project: Project):
    lock = project.read("dvc.lock")
    assert project.repro("--force", PYTHONHASHSEED="2") == ALL
    assert project.read("dvc.lock") == lock


def test_after_a_run_dvc_has_nothing_to_say_and_can_save_it(project: Project):
    assert "Data and pipelines are up to date" in project.run("dvc", "status")
    project.run("dvc", "exp", "save", "--name", "saved")
    assert "saved" in project.run("dvc", "exp", "list")
    project.run("dvc", "commit", "-f")
    assert project.run("git", "status", "--porcelain") == ""


def append(project: Project, path: str) -> None:
    project.edit(path, lambda content: content + "\n# A second thought.\n")


@pytest.mark.parametrize(
    ("path", "stages"),
    [
        ("stages/download/own_files.py", ["download"]),  # how JSON Lines files are read
        ("stages/report/figures.py", ["report"]),  # how the page looks
        ("stages/tools/trackers/mlflow.py", []),  # how a run is tracked
        ("stages/metrics/memorization.py", ["evaluate", "report"]),  # how a metric is computed
        ("stages/losses/windows.py", ["train", "evaluate", "sample"]),
    ],
)
def test_an_edit_reruns_the_stages_that_use_the_code(project: Project, path: str, stages: list[str]):
    append(project, path)
    assert project.repro() == stages


def test_runtime_parameters_rerun_nothing(project: Project):
    project.set({"runtime.log_every": 7, "runtime.checkpoint_every_seconds": 1.0, "runtime.sample_every": 5})
    assert project.repro() == []


def test_a_new_key_of_the_sample_section_reruns_sample_and_what_shows_it(project: Project):
    project.edit(
        "stages/sample/params.py", lambda code: code.replace("    prompt: str", "    mood: str\n    prompt: str")
    )
    project.set({"sample.mood": "calm"})
    assert project.repro() == ["sample", "report"]


LSTM = '''"""An LSTM (Hochreiter & Schmidhuber 1997)."""

from torch import Tensor, nn

from stages.models.base import LanguageModel
from stages.models.params import ModelParams


class LSTM(LanguageModel):
    """Embedding, LSTM layers, output head."""

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__(params, vocab_size)
        self.embedding = nn.Embedding(vocab_size, params.n_embd)
        self.lstm = nn.LSTM(params.n_embd, params.n_embd, params.n_layer, batch_first=True)
        self.head = nn.Linear(params.n_embd, vocab_size)

    def forward(self, ids: Tensor, **_: object) -> Tensor:
        """See `LanguageModel`."""
        logits: Tensor = self.head(self.lstm(self.embedding(ids))[0])
        return logits
'''


def test_a_new_model_is_one_file_and_one_line(project: Project):
    (project.folder / "stages/models/lstm.py").write_text(LSTM)
    line = '    "lstm": "stages.models.lstm:LSTM",\n'
    project.edit("stages/models/registry.py", lambda code: code.replace("}\n", line + "}\n"))
    project.set({"model.kind": "lstm"})
    assert project.repro() == ["train", "evaluate", "sample", "report"]
    metrics = json.loads(project.read("reports/metrics.json"))
    assert metrics["val_loss"] < metrics["uniform_val_loss"]
    assert "<h1>lstm on own</h1>" in project.read("reports/report.html")
    assert json.loads(project.read("models/config.json"))["training"]["environment"]["precision"] == "float32"
    tests = "tests/models/test_base.py", "tests/test_stages.py::test_every_model_trains_evaluates_and_samples"
    output = project.run("python", "-m", "pytest", "-q", "-k", "lstm", *tests, PYTHONPATH=str(project.folder))
    assert re.search(r"\d+ passed", output)
    assert "failed" not in output


def test_a_changed_text_reruns_everything(project: Project):
    project.edit(OWN, lambda _: SONG)
    assert project.repro() == ALL


def test_hidden_files_of_own_texts_do_not_concern_dvc(project: Project):
    (project.folder / OWN).with_name(".#words.txt").symlink_to("user@host.123:456")  # as an editor's lock
    assert project.repro() == []


def test_a_value_that_was_tried_before_comes_back_without_training(finished: Project, faster: Project, tmp_path: Path):
    project = faster.copied_to(tmp_path / "project")
    assert project.read("dvc.lock") != finished.read("dvc.lock")
    project.set({"train.lr": YAML().load(finished.read("params.yaml"))["train"]["lr"]})
    assert "train" not in project.repro()
    assert project.read("dvc.lock") == finished.read("dvc.lock")
    assert project.run("git", "status", "--porcelain") == ""


def test_two_versions_can_be_compared(faster: Project):
    parameters = json.loads(faster.run("dvc", "params", "diff", "--json"))
    assert parameters["params.yaml"]["train.lr"]["new"] == 0.05
    metrics = json.loads(faster.run("dvc", "metrics", "diff", "--json"))["reports/metrics.json"]
    assert metrics["val_loss"]["diff"] != 0
    plots = json.loads(faster.run("dvc", "plots", "diff", "--json"))
    assert {"HEAD", "workspace"} <= {
        version for plot in plots["data"]["learning curve"] for version in plot["revisions"]
    }


@pytest.mark.parametrize("folder", [".", "below"])
def test_runs_are_compared_without_a_cache_also_below_the_folder_of_git(faster: Project, tmp_path: Path, folder: str):
    copy = tmp_path / "clone" / folder
    shutil.copytree(faster.folder, copy, ignore=shutil.ignore_patterns(".git", "cache", "models", "corpus.*"))
    clone = Project(copy, faster.environment)
    commit = ("git", "-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "--all", "--message", "one")
    subprocess.run(["git", "init", "--quiet", str(tmp_path / "clone")], check=True)
    clone.run("git", "add", "--all", ".")
    clone.run(*commit)
    clone.edit(
        "dvc.lock",
        lambda lock: re.sub(r"(path: data/raw/corpus.txt\n +hash: md5\n +md5: )\w{8}", r"\g<1>00000000", lock),
    )
    clone.set({"train.lr": 0.007})
    clone.run(*commit)
    compared = clone.run("folio", "compare", "HEAD~1", "HEAD")
    assert re.search(r"^train.lr +0.05 +0.007$", compared, re.MULTILINE)
    assert re.search(r"^text +\w{8} +00000000$", compared, re.MULTILINE)
    assert "is unknown: models/config.json is missing" in compared


@pytest.mark.parametrize("name", ["a$b", "caf\udce9"])
def test_runs_with_odd_names_can_be_compared(project: Project, name: str):
    project.run("git", "branch", name)
    project.run("folio", "compare", name, "HEAD", "--page", "reports/compare.html")
    page = ElementTree.fromstring(re.search(r"<svg.*</svg>", project.read("reports/compare.html"), re.DOTALL)[0])  # type: ignore[index]
    assert name.replace("\udce9", "\\udce9") in "".join(page.itertext())


def test_a_wrong_parameter_is_explained_and_leaves_no_old_model_behind(project: Project):
    project.set({"train.lr": -1.0})
    failed = project.attempt("dvc", "repro")
    assert failed.returncode != 0
    assert "params.yaml: train.lr is -1.0" in failed.stdout
    assert "Traceback" not in failed.stdout
    assert not (project.folder / "models").exists()


def test_a_stage_that_is_run_by_hand_says_that_dvc_does_not_know_of_it(project: Project):
    said = project.attempt("folio", "tokenize").stdout
    assert "DVC has not recorded this run" in said
    for advice in re.findall(r"`(dvc [^`]+)`", said):
        project.run(*advice.split())
    assert "DVC has not recorded" not in project.run("dvc", "repro", "-f", "tokenize")


def test_the_guide_to_your_own_text_works_as_it_stands(project: Project, tmp_path: Path):
    (guide,) = (block for block in blocks(ROOT / "docs/texts.md") if block.tag == "guide")
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "songs.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": SONG}).encode()))
    (texts / "notes.txt").write_text(TEXT.upper())
    output = project.run("bash", "-euo", "pipefail", "-c", guide.text, TEXTS=str(texts))
    assert "val_loss" in output
    about = json.loads(project.read("data/raw/corpus.json"))
    assert (about["documents"], about["licence"]) == (3, "CC BY 4.0")  # and the text that was there
