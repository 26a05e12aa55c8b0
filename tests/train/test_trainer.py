import pytest
import torch

from stages.core.device import ComputeParams
from stages.core.errors import WorkError
from stages.models.base import LanguageModel
from stages.tokenizers.token_files import on_device
from stages.train.setup import set_up
from stages.train.trainer import Trainer
from tests.conftest import model_params, train_params


def trainer(tokens, tokenizer, model_changes=None, device="cpu", **changes) -> Trainer:
    model, params = model_params(**(model_changes or {})), train_params(**changes)
    compute = ComputeParams(device="cpu", threads=1, precision="float32", deterministic=True)
    train, val = (on_device(part, torch.device(device)) for part in (tokens[:4000], tokens[4000:]))
    made = set_up(model, params, compute, len(tokenizer), train, val)[1]
    assert made
    return made


def weights(model: LanguageModel) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


GOLDEN = {
    "bigram": ({"kind": "bigram"}, 2.621),
    "gpt": ({}, 2.142),
    "gpt on a prior": ({"prior": "kneser_ney", "recent": True, "window": 8}, 0.802),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_loss_after_sixty_steps(tokens, tokenizer, name):
    """May change only with a change that is meant to change training (another default, initialization, optimizer or
    draw of batches), and then with a line in the changelog; a refactoring leaves it where it is.
    """
    changes, golden = GOLDEN[name]
    run = trainer(tokens, tokenizer, changes, max_steps=60, eval_every=60)
    run.run()
    assert run.rows[-1].val_loss == pytest.approx(golden, abs=0.02)


def test_rows_come_when_they_should_and_count_tokens(tokens, tokenizer):
    run = trainer(tokens, tokenizer, max_steps=25, eval_every=10, accumulate=2)
    run.run()
    assert [(row.step, row.tokens) for row in run.rows] == [(10, 10 * 2 * 4 * 32), (20, 20 * 256), (25, 25 * 256)]
    assert run.tokens_seen == 25 * 256
    assert run.rows[0].lr == pytest.approx(0.02)


@pytest.mark.parametrize("changes", [{"eval_every": 3}, {"log_every": 1}, {"eval_windows": 1}])
def test_looking_more_often_changes_no_weight(tokens, tokenizer, changes):
    first, second = trainer(tokens, tokenizer, max_steps=6), trainer(tokens, tokenizer, max_steps=6, **changes)
    first.run()
    second.run()
    assert torch.equal(weights(first.model), weights(second.model))


def test_accumulating_two_batches_is_one_batch_of_twice_the_size(tokens, tokenizer):
    halves = trainer(tokens, tokenizer, batch_size=2, accumulate=2)
    whole = trainer(tokens, tokenizer, batch_size=4)
    drawn = [halves.batches.draw() for _ in range(2)]
    both = type(drawn[0])(*(torch.cat([getattr(each, name) for each in drawn]) for name in ("inputs", "targets")), None)
    halves.batches.draw_step = lambda _: iter(drawn)
    whole.batches.draw_step = lambda _: iter([both])
    for run in (halves, whole):
        run.take_step()
    torch.testing.assert_close(weights(halves.model), weights(whole.model), atol=1e-4, rtol=1e-3)


def test_clipping_bounds_the_gradient(tokens, tokenizer):
    run = trainer(tokens, tokenizer, clip_norm=1e-3)
    run.take_step()
    norms = torch.stack([weight.grad.norm() for weight in run.model.parameters()])
    assert norms.norm() == pytest.approx(1e-3, rel=1e-3)


def test_averaged_weights_end_in_the_model(tokens, tokenizer):
    plain, averaged = trainer(tokens, tokenizer), trainer(tokens, tokenizer, average=0.5)
    plain.run()
    averaged.run()
    assert not torch.equal(weights(plain.model), weights(averaged.model))
    path = torch.cat([average.flatten() for average in averaged.average])  # what was swapped out: the last step's
    assert torch.equal(path, weights(plain.model))


def test_dropout_acts_in_training_alone(tokens, tokenizer):
    run = trainer(tokens, tokenizer, {"dropout": 0.5}, max_steps=5)
    run.run()
    ids = tokens[:32].long()[None]
    assert torch.equal(run.model(ids), run.model(ids))
    run.model.train()
    assert not torch.equal(run.model(ids), run.model(ids))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the GPU's path of training was not tested")
@pytest.mark.parametrize("prior", ["none", "kneser_ney"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])  # of the second, CUDA can take no parts
def test_training_on_cuda_reaches_the_loss_of_the_cpu(tokens, tokenizer, prior, dtype):
    tokens = tokens.to(dtype)
    on_gpu = trainer(tokens, tokenizer, {"prior": prior, "recent": True}, "cuda", max_steps=60)
    on_cpu = trainer(tokens, tokenizer, {"prior": prior, "recent": True}, max_steps=60)
    for run in (on_gpu, on_cpu):
        run.run()
    assert on_gpu.rows[-1].val_loss == pytest.approx(on_cpu.rows[-1].val_loss, abs=0.02)


@pytest.mark.parametrize("step", [1, 4])
def test_a_loss_that_is_no_number_stops_before_the_weights_change(tokens, tokenizer, step):
    run = trainer(tokens, tokenizer)
    for _ in range(step - 1):
        run.take_step()
    before = weights(run.model)
    run.model.head.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(WorkError, match=rf"at step {step} .* train\.lr"):
        run.take_step()
    assert torch.equal(before, weights(run.model))
