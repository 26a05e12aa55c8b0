import hashlib
import json
import signal
import subprocess
import sys
import time
from threading import Thread
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from stages.core.errors import Interrupted, WorkError
from stages.train.checkpoint import (
    CHECKPOINT,
    DIGEST_BYTES,
    FORMAT,
    TrainingCheckpoint,
    code_fingerprint,
    dvc_digest,
    kernel_environment,
    processor,
    restore_tensors,
    state_tensors,
    training_fingerprint,
)
from stages.train.trainer import CurvePoint, Trainer
from tests.conftest import model_params, runtime_params, train_params
from tests.train.test_trainer import make_trainer, weights_of

FLIPS = 1000  # bits all over a checkpoint
KINDS: dict[str, dict[str, Any]] = {
    "bigram": {"kind": "bigram"},
    "gpt with dropout": {"dropout": 0.3},
    "gpt with a prior": {"prior": "kneser_ney", "cache_lm": True, "sliding_window": 8},
}


def make_checkpoint(folder, fingerprint: dict[str, Any] | None = None, **runtime: Any) -> TrainingCheckpoint:
    checkpoint = TrainingCheckpoint(fingerprint or {}, runtime_params(**runtime), folder)
    checkpoint.folder.mkdir(parents=True, exist_ok=True)
    return checkpoint


def train_to_end(trainer: Trainer) -> tuple[list[CurvePoint], torch.Tensor]:
    trainer.train()
    return trainer.curve, weights_of(trainer.model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [1, 9, 10, 13])
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_resuming_gives_the_same_curve_and_bits(tokens, tokenizer, tmp_path, kind, stop, ema_decay):
    def fresh() -> Trainer:
        return make_trainer(tokens, tokenizer, KINDS[kind], max_steps=16, eval_every=10, ema_decay=ema_decay)

    whole_curve, whole_weights = train_to_end(fresh())
    stopped, checkpoint = fresh(), make_checkpoint(tmp_path)

    def stop_there() -> None:
        if stopped.step == stop:
            checkpoint.save(stopped)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.train(stop_there)
    torch.rand(3)  # another process has another state of the global generator
    resumed = fresh()
    assert checkpoint.restore(resumed)
    assert resumed.step == stop
    curve, last_weights = train_to_end(resumed)
    assert curve == whole_curve
    assert torch.equal(last_weights, whole_weights)


@pytest.mark.parametrize("part", ["sampler", "torch", "optimizer.0", "optimizer.1", "ema", "weight", "losses"])
def test_a_part_missing_from_the_checkpoint_changes_the_result(tokens, tokenizer, part):
    """A negative control: if a part were not saved, the run would end elsewhere, and the test above would fail."""

    def fresh() -> Trainer:
        return make_trainer(tokens, tokenizer, {"dropout": 0.3}, max_steps=16, eval_every=10, ema_decay=0.9)

    whole_curve, whole_weights = train_to_end(fresh())
    stopped = fresh()
    for _ in range(12):
        stopped.take_step()
    saved = state_tensors(stopped)
    resumed = fresh()
    initial = state_tensors(resumed)
    kept = {name: value for name, value in saved.items() if not name.startswith(part)}
    restore_tensors(resumed, {name: value for name, value in initial.items() if name.startswith(part)} | kept)
    resumed.step = stopped.step
    curve, last_weights = train_to_end(resumed)
    assert curve != whole_curve
    assert part == "losses" or not torch.equal(last_weights, whole_weights)


def test_the_fingerprint_alone_decides_the_folder(tmp_path):
    first, same, other = (
        make_checkpoint(tmp_path, fingerprint) for fingerprint in ({"lr": 1, "b": 2}, {"b": 2, "lr": 1}, {"lr": 2})
    )
    assert first.folder == same.folder != other.folder
    assert first.folder == make_checkpoint(tmp_path, {"lr": 1, "b": 2}, log_every=7).folder


@pytest.mark.parametrize("name", ["train.npy", "val.npy", "tokens.json"])
def test_parameters_tokens_machine_and_code_are_in_the_fingerprint(tmp_path, name):
    for file in ("train.npy", "val.npy", "tokens.json"):
        (tmp_path / file).write_text("x")
    params = model_params(), train_params()
    before = training_fingerprint(*params, tmp_path, {"threads": 1})
    assert before["train.lr"] == 0.02
    assert before["model.n_embd"] == 16
    assert before["code"] == code_fingerprint()
    (tmp_path / name).write_text("y")
    after = training_fingerprint(*params, tmp_path, {"threads": 2})
    assert {key for key in before if before[key] != after[key]} == {f"tokens/{name}", "threads"}


def parts(checkpoint: TrainingCheckpoint) -> dict[str, torch.Tensor]:
    return load((checkpoint.folder / CHECKPOINT).read_bytes()[DIGEST_BYTES:])


def write(checkpoint: TrainingCheckpoint, state: dict[str, torch.Tensor]) -> None:
    """Write a state with the digest that fits."""
    content = save(state)
    (checkpoint.folder / CHECKPOINT).write_bytes(hashlib.sha256(content).digest() + content)


def change_progress(state: dict[str, torch.Tensor], **changes: Any) -> dict[str, torch.Tensor]:
    progress = json.loads(bytes(state["progress"].tolist())) | changes
    return state | {"progress": torch.tensor(list(json.dumps(progress).encode()), dtype=torch.uint8)}


def without(state: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    name = next(name for name in state if name.startswith(part))
    return {other: tensor for other, tensor in state.items() if other != name}


CHANGES: dict[str, Any] = {
    **{
        f"no {part}": lambda state, part=part: without(state, part)
        for part in ("sampler", "torch", "weight", "ema", "optimizer.0", "optimizer.1", "losses", "progress", "best")
    },
    "another step": lambda state: change_progress(state, step=64),
    "no number as step": lambda state: change_progress(state, step="many"),
    "a curve of another shape": lambda state: change_progress(state, curve=[[1, 2]]),
    "a point without a loss": lambda state: change_progress(state, curve=[{"step": 10, "tokens": 5}]),
    "a longer weight": lambda state: state | {"weight.head": torch.zeros(99, 16)},
    "another type": lambda state: state | {"weight.head": state["weight.head"].double()},
    "an unknown tensor": lambda state: state | {"extra": torch.zeros(1)},
    "an unknown part of the optimizer": lambda state: state | {"optimizer.0.0.extra": torch.zeros(1)},
    "progress is no text": lambda state: state | {"progress": torch.full((3,), 255, dtype=torch.uint8)},
}


@pytest.fixture
def stopped(tokens, tokenizer, tmp_path) -> tuple[TrainingCheckpoint, Any]:
    """Return a checkpoint at step 12, with a curve, and a function that makes new trainers."""

    def fresh() -> Trainer:
        return make_trainer(tokens, tokenizer, max_steps=16, eval_every=10, ema_decay=0.9, keep="best")

    trainer, checkpoint = fresh(), make_checkpoint(tmp_path)

    def stop_there() -> None:
        if trainer.step == 12:
            checkpoint.save(trainer)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.train(stop_there)
    return checkpoint, fresh


def assert_damaged(checkpoint: TrainingCheckpoint, trainer: Trainer, caplog: pytest.LogCaptureFixture) -> None:
    """Check that a checkpoint is reported as damaged, and that the trainer is as new."""
    before = {name: tensor.clone() for name, tensor in state_tensors(trainer).items()}
    caplog.clear()
    assert not checkpoint.restore(trainer)
    assert caplog.text.count("is damaged") == 1
    assert trainer.step == 0
    assert not trainer.curve
    after = state_tensors(trainer)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("change", CHANGES)
def test_a_state_that_does_not_fit_is_reported_and_leaves_the_trainer_as_it_is(stopped, change, caplog):
    checkpoint, fresh = stopped
    write(checkpoint, CHANGES[change](parts(checkpoint)))
    assert_damaged(checkpoint, fresh(), caplog)


def test_no_flipped_bit_and_no_cut_is_accepted(stopped, caplog):
    checkpoint, fresh = stopped
    path = checkpoint.folder / CHECKPOINT
    whole = path.read_bytes()
    trainer = fresh()
    bits = range(0, 8 * len(whole), 8 * len(whole) // FLIPS or 1)
    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert_damaged(checkpoint, trainer, caplog)
    for content in (b"", whole[:-1], whole[:DIGEST_BYTES], whole[: DIGEST_BYTES - 1], whole + b"x"):
        path.write_bytes(content)
        assert_damaged(checkpoint, trainer, caplog)


def test_an_experiment_of_the_queue_waits_for_another_one_that_trains_the_same_model(tmp_path, monkeypatch, caplog):
    copy = tmp_path / ".dvc/tmp/exps/copy"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    caplog.set_level("INFO", "folio")
    entered: list[float] = []

    def second() -> None:
        with make_checkpoint(tmp_path).locked():
            entered.append(time.monotonic())

    thread = Thread(target=second)
    with make_checkpoint(tmp_path).locked():
        thread.start()
        while "waiting for it" not in caplog.text:
            time.sleep(0.01)
        left = time.monotonic()
    thread.join(30)
    assert entered[0] >= left
    monkeypatch.chdir(tmp_path)
    with (
        make_checkpoint(tmp_path).locked(),
        pytest.raises(WorkError, match="already training this model"),
        make_checkpoint(tmp_path).locked(),
    ):
        pass


def test_the_previous_checkpoint_remains_until_the_new_one_is_complete(tokens, tokenizer, tmp_path, monkeypatch):
    trainer, checkpoint = make_trainer(tokens, tokenizer), make_checkpoint(tmp_path)
    trainer.take_step()
    checkpoint.save(trainer)
    trainer.take_step()
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            checkpoint.save(trainer)
    fresh = make_trainer(tokens, tokenizer)
    assert checkpoint.restore(fresh)
    assert fresh.step == 1


@pytest.mark.parametrize(
    ("runtime", "saved"),
    [
        ({"checkpoint_every_steps": 2}, [2, 4]),
        ({"checkpoint_every_seconds": 0.0}, [1, 2, 3, 4, 5]),
        ({"checkpoint_every_seconds": 1000.0}, []),
    ],
)
def test_checkpoints_are_saved_at_their_interval(tokens, tokenizer, tmp_path, runtime, saved):
    trainer, checkpoint = make_trainer(tokens, tokenizer, max_steps=6), make_checkpoint(tmp_path, **runtime)
    steps = []
    checkpoint.save = lambda trainer: steps.append(trainer.step)  # type: ignore[method-assign]
    trainer.train(lambda: checkpoint.save_if_due(trainer, None))
    assert steps == saved


def test_a_signal_saves_and_interrupts(tokens, tokenizer, tmp_path):
    trainer, checkpoint = make_trainer(tokens, tokenizer), make_checkpoint(tmp_path, checkpoint_every_seconds=1000.0)
    trainer.take_step()
    with pytest.raises(
        Interrupted, match=r"stopped by Ctrl-C \(SIGINT\); the next `dvc repro` or `folio train` resumes"
    ):
        checkpoint.save_if_due(trainer, signal.SIGINT)
    assert checkpoint.restore(make_trainer(tokens, tokenizer))


def test_the_second_process_is_told_who_holds_the_lock_and_success_deletes_the_folder(tmp_path):
    first, second = make_checkpoint(tmp_path), make_checkpoint(tmp_path)
    with first.locked(), pytest.raises(WorkError, match=r"process \d+ is already training"), second.locked():
        pass
    assert not first.folder.exists()
    with pytest.raises(ZeroDivisionError), second.locked():
        raise ZeroDivisionError
    assert second.folder.exists()
    with first.locked():
        assert json.loads((first.folder / "fingerprint.json").read_text()) == {"format": FORMAT}


def test_the_file_of_the_lock_remains_because_another_process_may_wait_for_it(tmp_path):
    first = make_checkpoint(tmp_path)
    lock = first.folder.with_suffix(".lock")
    with first.locked():
        inode = lock.stat().st_ino
    assert lock.stat().st_ino == inode


@pytest.mark.parametrize("recorded", [False, True])
def test_under_dvc_the_last_state_is_kept_until_the_model_is_recorded(stopped, recorded, tmp_path, monkeypatch):
    checkpoint, fresh = stopped
    monkeypatch.setenv("DVC_STAGE", "train")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models/weights").write_text("w")
    with checkpoint.locked():
        trainer = fresh()
        assert checkpoint.restore(trainer)
        trainer.train(before_end=lambda: checkpoint.save_last_step(trainer))
        checkpoint.mark_finished(tmp_path / "models")
    if recorded:
        (tmp_path / "dvc.lock").write_text(f"md5: {dvc_digest(tmp_path / 'models')}")
    again = fresh()
    with checkpoint.locked():
        assert checkpoint.restore(again) is not recorded
        again.train()
    assert again.curve == trainer.curve
    assert torch.equal(weights_of(again.model), weights_of(trainer.model))
    assert checkpoint.folder.exists() is not recorded


def test_a_finished_run_is_forgotten_when_another_one_starts(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "train")
    first, second = make_checkpoint(tmp_path, {"lr": 1}), make_checkpoint(tmp_path, {"lr": 2})
    with first.locked():
        first.mark_finished(tmp_path)
    assert first.folder.exists()
    with second.locked():
        assert not first.folder.exists()


def test_dvc_names_a_folder_by_the_same_digest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.json", "a/c.bin", "ä.txt"):
        (tmp_path / "models" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "models" / name).write_text(name)
    for command in (["init", "-q", "--no-scm"], ["add", "-q", "models"]):
        subprocess.run([sys.executable, "-m", "dvc", *command], check=True)
    assert dvc_digest(tmp_path / "models") in (tmp_path / "models.dvc").read_text()


def test_the_processor_and_the_variables_of_its_libraries_are_in_the_fingerprint(tmp_path, monkeypatch):
    cpuinfo = tmp_path / "cpuinfo"
    names = []
    for flags in ("sse avx2", "sse avx2 avx512f"):
        cpuinfo.write_text(f"processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
        names.append(processor(cpuinfo))
    assert names[0].startswith("Fast CPU @ 3 GHz (")
    assert names[0] != names[1]
    before = kernel_environment()
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert kernel_environment() == before | {"ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
    for name in ("TORCHELASTIC_RUN_ID", "NVIDIA_VISIBLE_DEVICES"):  # may differ in every run of one training
        monkeypatch.setenv(name, "1")
        assert name not in kernel_environment()
