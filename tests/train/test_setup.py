import pytest
import torch

from stages.core.device import ComputeParams, training_dtype
from stages.train.setup import compiled, set_up
from tests.conftest import model_params, train_params
from tests.train.test_trainer import trainer

COMPUTE = ComputeParams(device="cpu", threads=1, precision="float32", deterministic=True)


def test_a_model_that_only_counts_has_no_trainer(tokens, tokenizer):
    model, none = set_up(
        model_params(kind="kneser_ney"), train_params(), COMPUTE, len(tokenizer), tokens[:4000], tokens[4000:]
    )
    assert none is None
    assert len(model.rows.gamma) > 100


def test_the_seed_decides_the_first_weights(tokens, tokenizer):
    first, same, other = (
        set_up(model_params(), train_params(seed=seed), COMPUTE, len(tokenizer), tokens, tokens)[0].embedding.weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_switches_of_the_gpu_s_configuration_learn_on_the_cpu(tokens, tokenizer):
    """bfloat16, dropout, decay, averaging, clipping, accumulation together, as the README's GPU command sets them."""
    run = trainer(
        tokens, tokenizer, {"prior": "kneser_ney", "recent": True, "dropout": 0.2, "window": 8, "n_layer": 2},
        max_steps=60, eval_every=20, weight_decay=0.1, average=0.9, clip_norm=1.0, accumulate=2,
    )  # fmt: skip
    run.model.stream_dtype = torch.bfloat16
    run.run()
    losses = [row.val_loss for row in run.rows]
    assert losses[-1] < losses[0] < 1.2


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("auto", None)]
)
def test_precision_is_what_was_asked_for_and_auto_asks_the_hardware(monkeypatch, precision, expected):
    compute = COMPUTE.model_copy(update={"precision": precision})
    for fast in (True, False):
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda fast=fast: fast)
        auto = torch.bfloat16 if fast else torch.float32
        assert training_dtype(compute, torch.device("cpu")) == (expected or auto)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch by torch
def test_auto_compiles_on_cuda_alone(tokens, tokenizer):
    model = trainer(tokens, tokenizer).model
    for choice, device, compiles in [
        ("off", "cuda", False),
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("on", "cpu", True),
    ]:
        made = compiled(model, train_params(compile=choice), torch.device(device))
        assert (made is not model) == compiles
