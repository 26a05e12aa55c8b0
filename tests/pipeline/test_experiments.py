"""Experiments and the queue, in the project and in copies of it; a text that cannot be fetched."""

import json
import shutil

import pytest

from tests.pipeline.conftest import OWN, TEXT, Project, experiments_of, md5, register_corpus, wait_until

pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(300)]


def test_an_experiment_changes_a_parameter_from_the_command_line(project: Project):
    project.run("dvc", "exp", "run", "--name", "tiny", "--set-param", "train.lr=1e-5")  # DVC writes 1e-05
    assert "lr: 1e-05" in project.read("params.yaml")
    experiments = experiments_of(project)
    assert experiments["tiny"]["params"]["params.yaml"]["data"]["train"]["lr"] == 1e-5
    assert experiments["tiny"]["metrics"]["reports/metrics.json"]["data"]["val_loss"] > 0


def test_queued_experiments_run_elsewhere_with_the_edited_text_and_the_mirror_of_the_project(project: Project):
    register_corpus(project, TEXT + "and a few more\n")
    project.edit(OWN, lambda text: text.replace("a", "b"))
    queue = ("dvc", "exp", "run", "--queue", "--name")
    project.run(*queue, "edited", "--set-param", "train.lr=0.01", "evaluate")
    known = ("download.corpus=tinyshakespeare", "download.when_unreachable=fail")
    project.run(*queue, "known", "--set-param", known[0], "--set-param", known[1], "evaluate")
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
    in_a_copy = ("dvc", "exp", "run", "--temp", "--set-param")
    failed = project.attempt(*in_a_copy, "train.lr=0.01", "train").stdout
    assert (
        "This experiment runs in a copy of the project, which has only the files that git tracks: `git add`" in failed
    )
    project.run("git", "add", str(OWN))
    project.run(*in_a_copy, "train.lr=0.01", "train")
    shutil.copytree(project.folder / "models", project.folder / "base")
    failed = project.attempt(*in_a_copy, "train.init_from=base", "train").stdout
    assert (
        "train.init_from is base, which has no model; copy one to a folder, for example with `cp -r models base`"
        in failed
    )
    assert "which has only the files that git tracks: `git add`" in failed
    project.run("git", "add", "--force", "base")
    project.run(*in_a_copy, "train.init_from=base", "train")


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


def test_a_substitute_gives_way_to_the_real_text_and_never_comes_back(project: Project):
    real = project.stages_in_lock()
    register_corpus(project, TEXT)
    project.set({"download.corpus": "tinyshakespeare", "download.when_unreachable": "python-docs"})
    assert "USING ANOTHER TEXT" in project.run("dvc", "repro", "tokenize", FOLIO_MIRROR="nowhere")
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
