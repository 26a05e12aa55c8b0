"""The pipeline as DVC runs it: what runs again and what does not, versions, experiments, the way to another machine.

A finished run of a small model in a fresh clone is made once; every test that changes something works in a copy of it.
"""

import gzip
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
from xml.etree import ElementTree

import pytest
from ruamel.yaml import YAML

from tests.readme import blocks
from tests.small_project import copy_work_tree

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(300)]  # a shared machine may be several times slower

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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Clone the working tree, run a small pipeline and commit it; tests must not change it."""
    base = tmp_path_factory.mktemp("pipeline")
    project = Project(base / "finished", clean_environment(base))
    copy_work_tree(project.folder)
    (project.folder / OWN).write_text(TEXT)
    project.set(SMALL)
    project.run("git", "init", "--quiet")
    project.run("git", "config", "user.name", "Tester")
    project.run("git", "config", "user.email", "tester@example.org")
    assert project.repro(PYTHONHASHSEED="1") == ALL
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "a small run")
    return project


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """Return a copy of the finished run that a test may change."""
    return finished.copied_to(tmp_path / "project")


@pytest.fixture(scope="module")
def faster(finished: Project) -> Project:
    """Copy the finished run and train it with another learning rate, which must not be changed."""
    project = finished.copied_to(finished.folder.with_name("faster"))
    project.set({"train.lr": 0.05})
    assert project.repro() == ["train", "evaluate", "sample", "report"]
    return project


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
        ("stages/generation/sampling.py", ["evaluate", "sample"]),  # how tokens are sampled
        ("stages/report/figures.py", ["report"]),  # how the page looks
        ("stages/tools/trackers/mlflow.py", []),  # how a run is tracked
        ("stages/sample/command.py", ["sample"]),
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
    assert "is unknown, because the model is not in the cache" in compared


@pytest.mark.parametrize("name", ["a$b", "caf\udce9", "größer"])
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


def test_an_experiment_changes_a_parameter_from_the_command_line(project: Project):
    project.run("dvc", "exp", "run", "--name", "tiny", "--set-param", "train.lr=1e-5")  # DVC writes 1e-05
    assert "lr: 1e-05" in project.read("params.yaml")
    experiments = experiments_of(project)
    assert experiments["tiny"]["params"]["params.yaml"]["data"]["train"]["lr"] == 1e-5
    assert experiments["tiny"]["metrics"]["reports/metrics.json"]["data"]["val_loss"] > 0


def test_queued_experiments_run_elsewhere_with_the_edited_text_and_the_mirror_of_the_project(project: Project):
    register_corpus(project, TEXT + "and a few more\n")
    project.edit(OWN, lambda text: text.replace("a", "b"))
    project.run("dvc", "exp", "run", "--queue", "--name", "edited", "--set-param", "train.lr=0.01")
    known = ("download.corpus=tinyshakespeare", "download.when_unreachable=fail")
    project.run("dvc", "exp", "run", "--queue", "--name", "known", "--set-param", known[0], "--set-param", known[1])
    before = project.run("git", "status", "--porcelain")
    project.run("dvc", "exp", "run", "--run-all", FOLIO_MIRROR="texts")  # relative: to the project, not to the copy
    assert project.run("git", "status", "--porcelain") == before
    experiments = experiments_of(project)
    losses = {name: data["metrics"]["reports/metrics.json"]["data"]["val_loss"] for name, data in experiments.items()}
    assert len(set(losses.values())) == 2
    sums = {name: data["outs"]["data/raw/corpus.txt"]["hash"] for name, data in experiments.items()}
    assert sums == {"edited": md5(TEXT.replace("a", "b")), "known": md5(TEXT + "and a few more\n")}


def test_an_experiment_in_a_copy_that_lacks_a_file_says_what_to_do_about_it(project: Project):
    project.run("git", "rm", "--quiet", "--cached", str(OWN))
    project.run("git", "commit", "--quiet", "--message", "the text is mine")
    failed = project.attempt("dvc", "exp", "run", "--temp", "--set-param", "train.lr=0.01").stdout
    assert (
        "This experiment runs in a copy of the project, which has only the files that git tracks: `git add`" in failed
    )
    project.run("git", "add", str(OWN))
    project.run("dvc", "exp", "run", "--temp", "--set-param", "train.lr=0.01")
    shutil.copytree(project.folder / "models", project.folder / "base")
    option = ("--set-param", "train.init_from=base")
    failed = project.attempt("dvc", "exp", "run", "--temp", *option).stdout
    assert (
        "train.init_from is base, which has no model; copy one to a folder, for example with `cp -r models base`"
        in failed
    )
    assert "which has only the files that git tracks: `git add`" in failed
    project.run("git", "add", "--force", "base")
    project.run("dvc", "exp", "run", "--temp", *option)


def test_two_workers_of_the_queue_may_train_the_same_model(project: Project):
    for seed in ("1", "2"):
        project.run(
            "dvc", "exp", "run", "--queue", "--name", f"sample-{seed}",
            "--set-param", "train.max_steps=1500", "--set-param", f"sample.seed={seed}",
        )  # fmt: skip
    project.run("dvc", "queue", "start", "--jobs", "2")
    wait_until(lambda: project.run("dvc", "queue", "status").count("Success") == 2, 120)
    logs = [project.run("dvc", "queue", "logs", f"sample-{seed}") for seed in ("1", "2")]
    assert sum("resumed at step 1500" in log or "is cached" in log for log in logs) >= 1
    assert len(experiments_of(project)) == 2


def test_a_stage_that_is_run_by_hand_says_that_dvc_does_not_know_of_it(project: Project):
    said = project.attempt("folio", "tokenize").stdout
    assert "DVC has not recorded this run" in said
    for advice in re.findall(r"`(dvc [^`]+)`", said):
        project.run(*advice.split())
    assert "DVC has not recorded" not in project.run("dvc", "repro", "-f", "tokenize")


def test_a_substitute_gives_way_to_the_real_text_and_never_comes_back(project: Project):
    real = project.stages_in_lock()
    register_corpus(project, TEXT)
    project.set({"download.corpus": "tinyshakespeare", "download.when_unreachable": "python-docs"})
    assert "USING ANOTHER TEXT" in project.run("dvc", "repro", FOLIO_MIRROR="nowhere")
    assert "warning" in json.loads(project.read("data/raw/corpus.json"))

    # What the message tells the user to do. The real text is the finished run's, so its model comes from the run cache.
    assert project.repro("--force", "download", FOLIO_MIRROR="texts") == ["download"]
    assert "train" not in project.repro(FOLIO_MIRROR="texts")
    assert project.read("data/raw/corpus.txt") == TEXT
    assert "warning" not in json.loads(project.read("data/raw/corpus.json"))
    aside: dict[str, object] = {"download": None, "report": None}  # which say where the text came from
    assert {**project.stages_in_lock(), **aside} == {**real, **aside}

    # Without a network again, even a forced download keeps what it can verify.
    assert "USING ANOTHER" not in project.run("dvc", "repro", "--force", "download", FOLIO_MIRROR="nowhere")
    assert project.read("data/raw/corpus.txt") == TEXT


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
