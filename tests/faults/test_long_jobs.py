"""Stopping before the last step, and starting from a trained model."""

import shutil
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from stages.core.device import tokens_to_device
from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import evenly_spaced_windows
from stages.models.model_folder import load_model
from stages.tokenizers.token_files import load_tokens
from stages.train.params import TrainParams
from tests.faults.conftest import Project
from tests.faults.test_processes import trained
from tests.small_project import SMALL_MODEL

pytestmark = [pytest.mark.faults, pytest.mark.timeout(200)]


def test_a_run_may_end_by_time_and_its_rate_falls_until_then(make_project: Callable[..., Project]):
    project = make_project(train={"max_steps": 1_000_000, "max_seconds": 3.0, "eval_every": 20})
    start = time.monotonic()
    assert project.run()[0] == 0
    assert time.monotonic() - start < 30
    table = np.loadtxt(project.folder / "reports/train.tsv", skiprows=1)
    steps = trained(project)["steps"]
    assert steps == table[-1, 0] < 1_000_000
    assert table[-1, 4] < 0.2 * table[0, 4]


def test_a_run_ends_early_and_keeps_its_best_weights(make_project: Callable[..., Project]):
    project = make_project(
        model={"kind": "gpt", "prior": "none"},
        train={"max_steps": 5000, "lr": 0.3, "lr_head": 0.3, "eval_every": 10, "patience": 5, "keep": "best"},
    )
    assert project.run()[0] == 0
    losses = np.loadtxt(project.folder / "reports/train.tsv", skiprows=1)[:, 3]
    assert len(losses) < 500
    assert losses.argmin() == len(losses) - 6
    trained_model = load_model(project.folder / "models")
    val_ids = load_tokens(project.folder / "data/tokens", trained_model.tokenizer)[1]
    val = tokens_to_device(val_ids, torch.device("cpu"))
    windows = evenly_spaced_windows(val, trained_model.model.params.block_size, TrainParams().eval_windows)
    assert evaluate_loss(trained_model.model, [windows]).loss == pytest.approx(losses.min(), abs=1e-4)


def test_init_from_continues_a_model_and_refuses_another_vocabulary(make_project: Callable[..., Project]):
    model: dict[str, object] = {"kind": "gpt", "prior": "none"}
    project = make_project(model=model)
    assert project.run()[0] == 0
    before = np.loadtxt(project.folder / "reports/train.tsv", skiprows=1)
    shutil.copytree(project.folder / "models", project.folder / "first")
    project.set(model=model, train={"init_from": "first", "max_steps": 50, "lr": 0.001}, runtime={"sample_every": 20})
    code, output = project.run()
    assert code == 0, output
    assert output.count("sample at step") == 2
    assert np.loadtxt(project.folder / "reports/train.tsv", skiprows=1)[3] < before[0, 3]

    (project.folder / "data/raw/corpus.txt").write_text("the king and the queen " * 300)
    assert project.run("tokenize")[0] == 0
    code, output = project.run()
    assert code == 2
    assert "another vocabulary" in output
    vocabulary: dict[str, object] = {"tokenizer": "first/tokenizer.json"}
    project.set(model=model, train={"init_from": "first", "max_steps": 20}, tokenize=vocabulary)
    assert project.run("tokenize")[0] == 0
    assert project.run()[0] == 0
    (project.folder / "data/raw/corpus.txt").write_text("the king and the queen? " * 300)
    code, output = project.run("tokenize")
    assert code == 2
    assert "unknown character '?'" in output


def test_other_sizes_are_refused(make_project: Callable[..., Project]):
    project = make_project()
    assert project.run()[0] == 0
    shutil.copytree(project.folder / "models", project.folder / "first")
    project.set(model={"n_embd": 32}, train={"init_from": "first"})
    code, output = project.run()
    assert code == 2
    assert "a model of another architecture" in output
    project.set(model={"n_embd": "auto", "n_head": "auto"}, train={"init_from": "first"})
    code, output = project.run()
    assert code == 0, output
    assert load_model(project.folder / "models").model.params.n_embd == SMALL_MODEL["n_embd"]
