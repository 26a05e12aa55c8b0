import json

import pytest
import torch

from stages.core.errors import WorkError
from stages.train.checkpoint import FORMAT, StateFolder, put_back, tensors
from stages.train.trainer import Row, Trainer
from tests.train.test_trainer import trainer, weights

KINDS = {
    "bigram": {"kind": "bigram"},
    "gpt with dropout": {"dropout": 0.3},
    "gpt on a prior": {"prior": "kneser_ney", "recent": True, "window": 8},
}


def finished(run: Trainer) -> tuple[list[Row], torch.Tensor]:
    run.run()
    return run.rows, weights(run.model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stop", [1, 9, 10, 13])
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_going_on_from_a_state_gives_the_same_rows_and_bits(tokens, tokenizer, tmp_path, kind, stop, average):
    def fresh() -> Trainer:
        return trainer(tokens, tokenizer, KINDS[kind], max_steps=16, eval_every=10, average=average)

    whole_rows, whole_weights = finished(fresh())
    stopped, state = fresh(), StateFolder({"a": 1}, tmp_path)
    state.folder.mkdir(parents=True)

    def stop_there() -> None:
        if stopped.step == stop:
            state.save(stopped)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped.run(stop_there)
    torch.rand(3)  # the process that goes on is another one
    resumed = fresh()
    assert state.restore(resumed)
    assert resumed.step == stop
    rows, last = finished(resumed)
    assert rows == whole_rows
    assert torch.equal(last, whole_weights)


@pytest.mark.parametrize("left_out", ["batches", "torch", "optimizer.0", "optimizer.1", "average", "weight", "losses"])
def test_leaving_anything_out_of_the_state_is_noticed(tokens, tokenizer, tmp_path, left_out):
    """The negative control: were a part not saved, the run would end elsewhere, so the test above would fail."""

    def fresh() -> Trainer:
        return trainer(tokens, tokenizer, {"dropout": 0.3}, max_steps=16, eval_every=10, average=0.9)

    whole_rows, whole_weights = finished(fresh())
    stopped = fresh()
    for _ in range(6):
        stopped.take_step()
    saved = tensors(stopped)
    resumed = fresh()
    empty = tensors(resumed)
    kept = {name: value for name, value in saved.items() if not name.startswith(left_out)}
    put_back(resumed, {name: value for name, value in empty.items() if name.startswith(left_out)} | kept)
    resumed.step = stopped.step
    rows, last = finished(resumed)
    assert rows != whole_rows
    assert left_out == "losses" or not torch.equal(last, whole_weights)


def test_a_state_is_found_by_what_decides_its_bits_alone(tmp_path):
    first, same, other = (StateFolder(about, tmp_path) for about in ({"lr": 1, "b": 2}, {"b": 2, "lr": 1}, {"lr": 2}))
    assert first.folder == same.folder != other.folder


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "no json", "missing"])
def test_a_damaged_state_is_named_and_not_used(tokens, tokenizer, tmp_path, damage, caplog):
    run, state = trainer(tokens, tokenizer), StateFolder({}, tmp_path)
    state.folder.mkdir(parents=True)
    run.take_step()
    state.save(run)
    (path,) = state.folder.glob("step-*.safetensors")
    content = path.read_bytes()
    match damage:
        case "flip":
            path.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
        case "truncate":
            path.write_bytes(content[:-1])
        case "empty":
            path.write_bytes(b"")
        case "no json":
            (state.folder / "latest.json").write_text("{")
        case "missing":
            path.unlink()
    fresh = trainer(tokens, tokenizer)
    before = weights(fresh.model)
    assert not state.restore(fresh)
    assert fresh.step == 0
    assert torch.equal(before, weights(fresh.model))


def test_the_state_before_stays_until_the_new_one_is_whole(tokens, tokenizer, tmp_path, monkeypatch):
    run, state = trainer(tokens, tokenizer), StateFolder({}, tmp_path)
    state.folder.mkdir(parents=True)
    run.take_step()
    state.save(run)
    run.take_step()
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.replace", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            state.save(run)
    fresh = trainer(tokens, tokenizer)
    assert state.restore(fresh)
    assert fresh.step == 1


def test_a_second_trainer_is_told_who_holds_the_state_and_success_removes_it(tmp_path):
    first, second = StateFolder({}, tmp_path), StateFolder({}, tmp_path)
    with first.held(), pytest.raises(WorkError, match=r"process \d+ is training the same model"), second.held():
        pass
    assert not first.folder.exists()
    with pytest.raises(ZeroDivisionError), second.held():
        raise ZeroDivisionError
    assert second.folder.exists()
    with first.held():
        assert json.loads((first.folder / "about.json").read_text()) == {"format": FORMAT}
