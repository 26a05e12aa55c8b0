"""Every stage on a stand-in for a GPU gives the results of the CPU."""

import json
import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from stages import load
from stages.core.errors import Interrupted
from stages.generation.params import GenerationParams
from stages.models.model_folder import load_model
from stages.train.checkpoint import TrainingCheckpoint
from tests.conftest import make_text
from tests.gpu.standin import DEVICE, on_standin
from tests.import_graph import KINDS
from tests.small_project import run, set_params

Section = dict[str, Any]
SHORT = {"max_steps": 8, "eval_every": 4}


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/corpus.txt").write_text(make_text(300))
    monkeypatch.setattr("stages.evaluate.measurements.OVERLAP_LENGTH", 10)
    monkeypatch.setattr("stages.train.command.SAMPLE_LENGTH", 5)
    # So that a small text also has sparse rows.
    monkeypatch.setattr("stages.models.ngram.smoothing.MAX_DENSE_ENTRIES", 600)
    monkeypatch.setattr("stages.models.ngram.cross_fitting.MAX_FOLD_DENSE_ENTRIES", 600)
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(deterministic)


def run_stages(device: str, *stages: str, **sections: Section) -> None:
    """Run stages on the CPU or on the stand-in; keep the results in a folder of that name."""
    sections["train"] = SHORT | sections.get("train", {})
    set_params(compute={"device": device}, sample={"num_samples": 1, "max_new_tokens": 10}, **sections)
    with on_standin() if device == "cuda" else nullcontext():
        for stage in stages:
            run(*stage.split())
    for name in ("models", "reports"):
        shutil.copytree(name, f"{device}/{name}", dirs_exist_ok=True)


def assert_equal_results() -> None:
    for path in Path("cpu/reports").glob("*.tsv"):
        on_cpu, on_gpu = (pd.read_csv(each, sep="\t") for each in (path, Path("cuda/reports") / path.name))
        pd.testing.assert_frame_equal(on_cpu, on_gpu, atol=1e-5, rtol=1e-5)
    metrics = [json.loads(Path(f"{device}/reports/metrics.json").read_text()) for device in ("cpu", "cuda")]
    assert metrics[1] == pytest.approx(metrics[0], abs=2e-5)
    samples = [Path(f"{device}/reports/samples.txt").read_text() for device in ("cpu", "cuda")]
    assert samples[0] == samples[1]


ALL = ("tokenize", "train", "evaluate", "sample --output reports/samples.txt")


@pytest.mark.parametrize(
    "model",
    [
        *({"kind": kind} for kind in KINDS),
        *(
            pytest.param(model, marks=pytest.mark.pipeline)
            for model in ({"prior": "none"}, {"cache_lm": False, "sliding_window": 0}, {"context_experts": False})
        ),
    ],
    ids=str,
)
def test_every_model_in_every_stage(model):
    for device in ("cpu", "cuda"):
        run_stages(device, *ALL, model=model)
    assert json.loads(Path("cuda/models/config.json").read_text())["training"]["environment"]["device"] == "standin"
    assert_equal_results()


@pytest.mark.pipeline
@pytest.mark.parametrize("tokenize", [{"kind": "byte"}, {"kind": "bpe", "vocab_size": 300}], ids=str)
def test_every_tokenizer_in_every_stage(tokenize):
    if tokenize["kind"] == "bpe":
        pytest.importorskip("tokenizers")
    for device in ("cpu", "cuda"):
        run_stages(device, *ALL, tokenize=tokenize)
    assert_equal_results()


def test_more_than_256_characters():
    symbols = "".join(map(chr, range(0x4E00, 0x4E00 + 300)))
    Path("data/raw/corpus.txt").write_text(make_text(300) + symbols * 5 + make_text(300))
    for device in ("cpu", "cuda"):
        run_stages(device, *ALL)
    assert load_model(Path("models")).model.prior.table.tokens.dtype not in (torch.uint8, torch.uint16)
    assert_equal_results()


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("train", "model"),
    [
        ({"ema_decay": 0.9, "keep": "best", "held_out_fraction": 0.2, "grad_clip": 1.0}, {}),
        ({"grad_accum_steps": 2, "optimizer": "adamw", "lr": 0.003}, {"dropout": 0.1}),
        ({"window_size": 16, "max_seconds": 1000.0, "patience": 5, "max_tokens": 1000}, {}),
    ],
    ids=str,
)
def test_every_way_to_train(train, model):
    for device in ("cpu", "cuda"):
        run_stages(device, *ALL, train=train, model=model, runtime={"sample_every": 3, "checkpoint_every_steps": 4})
    assert_equal_results()


def test_a_stopped_training_resumes_to_the_same_bits(monkeypatch):
    options = {"model": {"dropout": 0.1}, "train": {"ema_decay": 0.9, "keep": "best"}}
    set_params(compute={"device": "cuda"}, **options | {"train": options["train"] | SHORT})
    with on_standin():
        run("tokenize")
        run("train")
        expected = load_model(Path("models")).model.state_dict()

        def save_and_stop(self: TrainingCheckpoint, trainer: Any, _signal: object) -> None:
            if trainer.step == 5:
                self.save(trainer)
                raise Interrupted(15)

        with monkeypatch.context() as patch:
            patch.setattr(TrainingCheckpoint, "save_if_due", save_and_stop)
            run("train", fails=143)
        assert "resumed at step 5" in run("train").stderr
    resumed = load_model(Path("models")).model.state_dict()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)


def test_a_gpu_continues_a_model_and_scores_text():
    run_stages("cuda", "tokenize", "train")
    Path("words.txt").write_text(make_text(20, seed=3))
    shutil.copytree("models", "first")
    for device in ("cpu", "cuda"):
        run_stages(device, "train", train={"init_from": "first"})
    with on_standin():
        on_gpu = run("score", "words.txt", "--device", "cuda", "--json").stdout
        samples = run("sample", "--device", "cuda", "--prompt", "the ").stdout
    assert json.loads(run("score", "words.txt", "--json").stdout) == pytest.approx(json.loads(on_gpu), rel=1e-5)
    assert run("sample", "--device", "cpu", "--prompt", "the ").stdout == samples


def test_the_library_generates_and_scores_on_a_gpu():
    run_stages("cpu", "tokenize", "train")
    text = make_text(20, seed=3)
    expected = load(), load().score(text)
    with on_standin():
        model = load(device=DEVICE)
        params = GenerationParams(max_new_tokens=40, temperature=0.8, top_k=5, top_p=0.9, min_p=0.01)
        assert model.generate("the ", 40, seed=3) == expected[0].generate("the ", 40, seed=3)
        assert model.score(text) == pytest.approx(expected[1], abs=1e-5)
        streamed = "".join(model.stream("the ", params, seed=3))
        assert model.generate_samples("the ", params, [3])[0].text == "the " + streamed
