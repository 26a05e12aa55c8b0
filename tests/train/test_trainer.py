import time
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.core.compute_params import ComputeParams
from stages.core.device import tokens_to_device
from stages.core.errors import ParameterError, WorkError
from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import Windows
from stages.models.base import LanguageModel
from stages.tokenizers.char import CharTokenizer
from stages.train.setup import prepare_training
from stages.train.trainer import Trainer
from tests.conftest import model_params, runtime_params, train_params

COMPUTE = ComputeParams(device="cpu", threads=1, precision="float32")


def make_trainer(
    tokens: Tensor,
    tokenizer: CharTokenizer,
    model_changes: dict[str, Any] | None = None,
    device="cpu",
    **changes: Any,
) -> Trainer:
    train, val = (tokens_to_device(part.numpy(), torch.device(device)) for part in (tokens[:4000], tokens[4000:]))
    params = model_params(**(model_changes or {})), train_params(**changes), runtime_params()
    classes = torch.from_numpy(tokenizer.token_classes())
    trainer = prepare_training(*params, COMPUTE, len(tokenizer), train, val, token_classes=classes)[1]
    assert trainer
    return trainer


def weights_of(model: LanguageModel) -> Tensor:
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


# The validation loss after 100 steps, in float32 on one thread of a CPU.
GOLDEN: dict[str, tuple[dict[str, Any], dict[str, Any], float]] = {
    "bigram": ({"kind": "bigram"}, {"lr_embedding": 0.3}, 1.4435),
    "lecture_gpt": ({"kind": "lecture_gpt"}, {"optimizer": "adamw", "lr": 0.01}, 1.4466),
    "gpt": ({"n_layer": 2}, {}, 1.6978),
    "gpt with a prior": ({"prior": "kneser_ney", "cache_lm": True, "sliding_window": 8, "n_layer": 2}, {}, 0.7958),
    "gpt with every switch": (
        {"prior": "kneser_ney", "cache_lm": True, "sliding_window": 8, "dropout": 0.1},
        {"weight_decay": 0.5, "ema_decay": 0.95, "grad_clip": 0.5, "grad_accum_steps": 3},
        0.7970,
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_loss(tokens, tokenizer, name):
    """A golden loss may only change with a deliberate change of training, which the changelog then mentions.

    Such a change is a new default, initialization, optimizer or sampling of batches. A refactoring changes no loss.
    """
    model_changes, changes, golden = GOLDEN[name]
    trainer = make_trainer(tokens, tokenizer, model_changes, max_steps=100, eval_every=100, warmup_steps=20, **changes)
    trainer.train()
    assert trainer.curve[-1].val_loss == pytest.approx(golden, abs=0.001)


def test_points_are_added_at_their_interval_and_count_tokens(tokens, tokenizer):
    trainer = make_trainer(tokens, tokenizer, max_steps=25, eval_every=10, grad_accum_steps=2)
    trainer.train()
    points = [(point.step, point.tokens) for point in trainer.curve]
    assert points == [(10, 10 * 2 * 4 * 32), (20, 20 * 256), (25, 25 * 256)]
    assert trainer.tokens_seen == 25 * 256
    assert trainer.curve[0].lr == pytest.approx(0.02)


def test_a_held_out_part_is_not_trained_on_and_chooses_the_best_point(tokens, tokenizer):
    trainer = make_trainer(
        tokens,
        tokenizer,
        {"prior": "kneser_ney", "cache_lm": True},
        held_out_fraction=0.25,
        keep="best",
        lr=0.5,
        max_steps=40,
    )
    assert len(trainer.sampler.tokens) == 3000
    assert trainer.held_out_windows
    assert trainer.held_out_windows.train_positions is not None
    assert int(trainer.held_out_windows.train_positions.min()) == 3000
    assert torch.equal(tokens[trainer.held_out_windows.train_positions].long(), trainer.held_out_windows.inputs)
    trainer.train()
    losses = [point.held_out_loss for point in trainer.curve]
    assert evaluate_loss(trainer.model, [trainer.held_out_windows]).loss == pytest.approx(min(losses), abs=1e-5)
    columns, rows = trainer.curve_table()
    assert columns[-1] == "held_out_loss"
    assert [row[-1] for row in rows] == losses
    assert make_trainer(tokens, tokenizer).curve_table()[0][-1] == "lr"


def test_a_held_out_part_must_leave_a_window_to_train_on(tokens, tokenizer):
    with pytest.raises(
        ParameterError, match=r"train.held_out_fraction is 0.4: of 4000 training tokens, it leaves 1499"
    ):
        make_trainer(tokens, tokenizer, {"block_size": 2500}, held_out_fraction=0.4, keep="best")


def test_the_first_point_has_the_mean_training_loss(tokens, tokenizer):
    trainer = make_trainer(tokens, tokenizer, max_steps=4, eval_every=2)
    losses = []
    trainer.train(lambda: losses.append(float(trainer.losses[-1])) if trainer.losses else None)
    twin = make_trainer(tokens, tokenizer, max_steps=4, eval_every=2)
    twin.take_step()
    twin.take_step()
    assert trainer.curve[0].train_loss == pytest.approx(float(torch.stack(twin.losses).mean()))
    assert losses[0] == pytest.approx(float(twin.losses[0]))


@pytest.mark.parametrize("changes", [{"eval_every": 3}, {"eval_windows": 1}])
def test_evaluating_more_often_changes_no_weight(tokens, tokenizer, changes):
    first, second = (make_trainer(tokens, tokenizer, max_steps=6, **extra) for extra in ({}, changes))
    first.train()
    second.train()
    assert torch.equal(weights_of(first.model), weights_of(second.model))


def test_logging_and_checkpoint_callbacks_change_no_weight(tokens, tokenizer):
    first, second = (make_trainer(tokens, tokenizer, max_steps=6) for _ in range(2))
    second.runtime = runtime_params(log_every=1)
    first.train()
    second.train(lambda: None, lambda _: None)
    assert torch.equal(weights_of(first.model), weights_of(second.model))


def test_accumulating_two_batches_equals_one_batch_of_twice_the_size(tokens, tokenizer):
    two = make_trainer(tokens, tokenizer, batch_size=2, grad_accum_steps=2)
    one = make_trainer(tokens, tokenizer, batch_size=4)
    batches = [two.sampler.sample() for _ in range(2)]
    names = ("inputs", "targets", "train_positions")
    both = Windows(**{name: torch.cat([getattr(batch, name) for batch in batches]) for name in names})
    two.sampler.sample_step = lambda _: iter(batches)  # type: ignore[method-assign]
    one.sampler.sample_step = lambda _: iter([both])  # type: ignore[method-assign]
    for trainer in (two, one):
        trainer.take_step()
    torch.testing.assert_close(weights_of(two.model), weights_of(one.model), atol=1e-4, rtol=1e-3)
    gradients = [torch.cat([w.grad.flatten() for w in t.model.parameters() if w.grad is not None]) for t in (two, one)]
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-3)
    assert float(two.losses[0]) == pytest.approx(float(one.losses[0]), rel=1e-5)


def test_training_uses_counts_of_the_other_folds(tokens, tokenizer):
    trainer = make_trainer(tokens, tokenizer, {"prior": "kneser_ney"})
    batch = trainer.sampler.sample()
    with torch.no_grad():
        logits = trainer.forward_model(batch.inputs, train_positions=batch.train_positions)
        overfitted = trainer.model(batch.inputs)
    losses = [torch.nn.functional.cross_entropy(x.flatten(0, 1), batch.targets.flatten()) for x in (logits, overfitted)]
    assert losses[0] > losses[1] + 0.05


def test_clipping_bounds_the_gradient(tokens, tokenizer):
    trainer = make_trainer(tokens, tokenizer, grad_clip=1e-3)
    trainer.take_step()
    norms = torch.stack([weight.grad.norm() for weight in trainer.model.parameters() if weight.grad is not None])
    assert float(norms.norm()) == pytest.approx(1e-3, rel=1e-3)


def test_the_averaged_weights_are_the_result(tokens, tokenizer):
    plain, averaged = make_trainer(tokens, tokenizer), make_trainer(tokens, tokenizer, ema_decay=0.5)
    plain.train()
    averaged.train()
    assert not torch.equal(weights_of(plain.model), weights_of(averaged.model))
    assert averaged.ema
    last = torch.cat([weight.flatten() for weight in averaged.ema])  # exchanged with the average
    assert torch.equal(last, weights_of(plain.model))


def test_the_average_follows_its_formula(tokens, tokenizer):
    trainer = make_trainer(tokens, tokenizer, ema_decay=0.5)
    expected = weights_of(trainer.model)
    for step in range(1, 31):
        trainer.take_step()
        expected = expected.lerp(weights_of(trainer.model), max(0.5, 1 / (1 + step / 10)))
    assert trainer.ema
    torch.testing.assert_close(torch.cat([weight.flatten() for weight in trainer.ema]), expected)


def test_the_best_weights_can_be_the_result(tokens, tokenizer):
    trainer = make_trainer(
        tokens, tokenizer, max_steps=60, eval_every=10, keep="best", lr=3.0, lr_head=3.0, lr_decay_fraction=0.0
    )
    seen: dict[float, Tensor] = {}
    trainer.train(after_point=lambda point: seen.update({point.val_loss: weights_of(trainer.model)}))
    assert min(seen) < trainer.curve[-1].val_loss
    assert torch.equal(weights_of(trainer.model), seen[min(seen)])


def test_patience_ends_a_training_without_progress(tokens, tokenizer):
    trainer = make_trainer(tokens, tokenizer, max_steps=1000, eval_every=1, patience=3, lr=0.3, lr_head=0.3)
    trainer.train()
    losses = [point.val_loss for point in trainer.curve]
    assert len(losses) < 200
    assert losses.index(min(losses)) == len(losses) - 4


def test_dropout_acts_in_training_only(tokens, tokenizer):
    trainer = make_trainer(tokens, tokenizer, {"dropout": 0.5}, max_steps=5)
    trainer.train()
    ids = tokens[:32].long()[None]
    assert torch.equal(trainer.model(ids), trainer.model(ids))
    trainer.model.train()
    assert not torch.equal(trainer.model(ids), trainer.model(ids))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: training on a GPU was not tested")
@pytest.mark.parametrize("prior", ["none", "kneser_ney"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])  # CUDA cannot index the second
def test_training_on_cuda_reaches_the_loss_of_the_cpu(tokens, tokenizer, prior, dtype):
    tokens = tokens.to(dtype)
    on_gpu = make_trainer(tokens, tokenizer, {"prior": prior, "cache_lm": True}, "cuda", max_steps=60)
    on_cpu = make_trainer(tokens, tokenizer, {"prior": prior, "cache_lm": True}, max_steps=60)
    for trainer in (on_gpu, on_cpu):
        trainer.train()
    assert on_gpu.curve[-1].val_loss == pytest.approx(on_cpu.curve[-1].val_loss, abs=0.02)


@pytest.mark.parametrize("step", [1, 4])
def test_an_infinite_or_nan_loss_stops_before_the_weights_change(tokens, tokenizer, step):
    trainer = make_trainer(tokens, tokenizer)
    for _ in range(step - 1):
        trainer.take_step()
    before = weights_of(trainer.model)
    trainer.model.head.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(WorkError, match=rf"at step {step} .* train\.lr"):
        trainer.take_step()
    assert torch.equal(before, weights_of(trainer.model))


def test_the_first_step_after_a_start_does_not_count_for_max_seconds(tokens, tokenizer):
    trainer = make_trainer(tokens, tokenizer, max_steps=100, max_seconds=1000.0)
    model, slow = trainer.forward_model, [0.3]

    def forward(*arguments, **keywords):  # as if it were compiled
        time.sleep(slow.pop() if slow else 0.0)
        return model(*arguments, **keywords)

    trainer.forward_model = forward  # type: ignore[assignment]
    trainer.take_step()
    assert trainer.seconds == 0.0
    trainer.take_step()
    assert 0.0 < trainer.seconds < 0.3


def test_the_initial_loss_of_a_tiny_vocabulary_is_no_divergence():
    text = torch.tensor([0, 1] * 4000)
    trainer = make_trainer(text, CharTokenizer("01"), {"kind": "bigram"}, max_steps=1)
    trainer.model.table.weight.data = torch.tensor([[1.2, -1.1], [-1.2, 1.1]])  # a likely draw
    trainer.train()
    assert trainer.curve[-1].train_loss > 2.3


@pytest.mark.parametrize("lr", [300.0, 1e37])
def test_a_training_that_diverges_ends_with_an_error(tokens, tokenizer, lr):
    trainer = make_trainer(tokens, tokenizer, max_steps=40, eval_every=10, lr_head=lr)
    with pytest.raises(WorkError, match=r"(training has diverged|loss or its gradient).* train\.lr_head"):
        trainer.train()
