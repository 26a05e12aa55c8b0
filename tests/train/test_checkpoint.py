import json
import signal
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from stages.core.errors import Interrupted, WorkError
from stages.core.files import sha256
from stages.train.checkpoint import (
    FORMAT,
    TrainingCheckpoint,
    code_fingerprint,
    restore_tensors,
    state_tensors,
    training_fingerprint,
)
from stages.train.trainer import CurvePoint, Trainer
from tests.conftest import model_params, runtime_params, train_params
from tests.train.test_trainer import make_trainer, weights_of

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


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "no json", "no step", "no momentum", "missing"])
def test_a_damaged_checkpoint_is_reported_and_ignored(tokens, tokenizer, tmp_path, monkeypatch, damage):
    warnings: list[str] = []
    monkeypatch.setattr("stages.train.checkpoint.log.warning", lambda text, *values: warnings.append(text % values))
    trainer, checkpoint = make_trainer(tokens, tokenizer), make_checkpoint(tmp_path)
    trainer.take_step()
    checkpoint.save(trainer)
    (path,) = checkpoint.folder.glob("step-*.safetensors")
    content = path.read_bytes()
    match damage:
        case "flip":
            path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        case "truncate":
            path.write_bytes(content[:-1])
        case "empty":
            path.write_bytes(b"")
        case "no json":
            (checkpoint.folder / "latest.json").write_text("{")
        case "no step":
            latest = json.loads((checkpoint.folder / "latest.json").read_text())
            del latest["step"]
            (checkpoint.folder / "latest.json").write_text(json.dumps(latest))
        case "no momentum":  # with the digest that fits
            state = load_file(path)
            del state[next(name for name in state if name.startswith("optimizer.0"))]
            save_file(state, path)
            latest = json.loads((checkpoint.folder / "latest.json").read_text())
            (checkpoint.folder / "latest.json").write_text(json.dumps(latest | {"sha256": sha256(path)}))
        case "missing":
            path.unlink()
    fresh = make_trainer(tokens, tokenizer)
    before = weights_of(fresh.model)
    assert not checkpoint.restore(fresh)
    assert len(warnings) == 1
    assert "damaged" in warnings[0]
    assert fresh.step == 0
    assert torch.equal(before, weights_of(fresh.model))


@pytest.mark.parametrize("name", ["sampler", "torch"])
def test_a_missing_tensor_leaves_the_trainer_unchanged(tokens, tokenizer, name):
    trainer, fresh = make_trainer(tokens, tokenizer), make_trainer(tokens, tokenizer)
    trainer.take_step()
    state = state_tensors(trainer)
    del state[name]
    before = weights_of(fresh.model)
    with pytest.raises(KeyError, match=name):
        restore_tensors(fresh, state)
    assert torch.equal(before, weights_of(fresh.model))


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
    with pytest.raises(Interrupted, match="stopped by SIGINT; the next run resumes"):
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
