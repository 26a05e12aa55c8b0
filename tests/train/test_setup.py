from functools import partial

import pytest
import torch

from stages.core.compute_params import ComputeParams
from stages.core.errors import ModelError, ParameterError
from stages.models.base import build_model
from stages.train.setup import (
    check_same_architecture,
    check_window_size,
    compile_model,
    copy_weights,
    missing_for_compilation,
    prepare_training,
)
from tests.conftest import model_params, runtime_params, train_params
from tests.train.test_trainer import COMPUTE, make_trainer


def test_a_model_without_trainable_weights_has_no_trainer(tokens, tokenizer):
    model, trainer = prepare_training(
        model_params(kind="kneser_ney"), train_params(), runtime_params(), COMPUTE, len(tokenizer), tokens, tokens
    )
    assert trainer is None
    assert len(model.table.backoff_weights) > 100


def test_the_seed_decides_the_initial_weights(tokens, tokenizer):
    first, same, other = (make_trainer(tokens, tokenizer, seed=seed).model.embedding.weight for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_switches_for_a_gpu_learn_on_the_cpu(tokens, tokenizer):
    """Use bfloat16, dropout, weight decay, averaging, clipping and accumulation together."""
    compute = ComputeParams(device="cpu", threads=1, precision="bfloat16")
    params = train_params(
        max_steps=60, eval_every=20, weight_decay=0.1, ema_decay=0.9, grad_clip=1.0, grad_accum_steps=2
    )
    model = model_params(prior="kneser_ney", cache_lm=True, dropout=0.2, sliding_window=8, n_layer=2)
    train, val = tokens[:4000], tokens[4000:]
    _, trainer = prepare_training(model, params, runtime_params(), compute, len(tokenizer), train, val)
    assert trainer
    assert trainer.model.compute_dtype == torch.bfloat16
    trainer.train()
    losses = [point.val_loss for point in trainer.curve]
    assert losses[-1] < losses[0] < 1.2


def test_training_windows_may_be_shorter_than_the_block(tokens, tokenizer):
    trainer = make_trainer(tokens, tokenizer, {"block_size": 32}, window_size=8, batch_size=4)
    assert trainer.sampler.sample().inputs.shape == (4, 8)
    trainer.take_step()
    assert trainer.tokens_seen == 32


@pytest.mark.parametrize(
    ("kind", "window_size", "message"),
    [
        ("gpt", 64, r"train.window_size is 64: it must be at most model.block_size, 32"),
        ("lecture_gpt", 8, "only gpt can be trained on shorter windows, not lecture_gpt; set train.window_size to 0"),
    ],
)
def test_windows_that_do_not_suit_the_model_are_refused(kind, window_size, message):
    with pytest.raises(ParameterError, match=message):
        check_window_size(model_params(kind=kind, block_size=32), train_params(window_size=window_size))
    for allowed in (0, 32):
        check_window_size(model_params(kind=kind, block_size=32), train_params(window_size=allowed))


def test_weights_are_copied_from_a_model_of_the_same_size_only():
    first, second = (build_model(model_params(), 9) for _ in range(2))
    copy_weights(first, second)
    assert torch.equal(first.embedding.weight, second.embedding.weight)
    with pytest.raises(ModelError, match="a model of another architecture"):
        check_same_architecture(first, build_model(model_params(n_embd=32), 9))
    # No weight of `gpt` depends on the block size, so it is not to blame.
    with pytest.raises(ModelError, match=r"architecture \(model.n_embd is 16 there, 32 here\)"):
        check_same_architecture(first, build_model(model_params(n_embd=32, block_size=8), 9))


def test_a_compiler_that_is_missing_is_named(tokens, tokenizer, monkeypatch):
    monkeypatch.setattr("shutil.which", {}.get)
    monkeypatch.setenv("CXX", "nosuch++")
    model = build_model(model_params(), len(tokenizer))
    with pytest.raises(
        ParameterError, match=r"there is no compiler 'nosuch\+\+'; install it, set CXX to another one, or"
    ):
        compile_model(model, train_params(compile="on"), torch.device("cpu"))
    assert compile_model(model, train_params(compile="auto"), torch.device("cpu")) is model


def test_on_a_gpu_a_model_is_not_compiled_without_a_compiler_or_headers(tokenizer, monkeypatch, tmp_path, caplog):
    model, cuda = build_model(model_params(), len(tokenizer)), torch.device("cuda")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr("shutil.which", {"clang": "/usr/bin/clang"}.get)
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    assert compile_model(model, train_params(compile="auto"), cuda) is model
    assert f"{tmp_path}/Python.h is missing; install Python's headers" in caplog.text
    with pytest.raises(
        ParameterError, match=r"train\.compile is on, but .*Python\.h is missing.*, or set train\.compile to off"
    ):
        compile_model(model, train_params(compile="on"), cuda)
    (tmp_path / "Python.h").touch()
    assert missing_for_compilation(cuda) is None
    monkeypatch.setattr("shutil.which", {}.get)
    assert compile_model(model, train_params(compile="auto"), cuda) is model
    assert "there is no compiler 'gcc or clang'" in caplog.text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch
def test_what_cannot_be_compiled_is_left_out(tokens, tokenizer, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: name)
    model = make_trainer(tokens, tokenizer, {"prior": "kneser_ney"}).model
    assert not hasattr(model._expert_outputs_uncompiled, "_torchdynamo_disable")
    compile_model(model, train_params(compile="on"), torch.device("cpu"))
    assert model._expert_outputs_uncompiled._torchdynamo_disable


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch
def test_the_trainer_uses_the_compiled_model(tokens, tokenizer, monkeypatch):
    """With the compiler's first half only: all of it takes half a minute."""
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    compiled, plain = (make_trainer(tokens, tokenizer, max_steps=3, compile=choice) for choice in ("on", "off"))
    assert compiled.forward_model is not compiled.model
    assert compiled.forward_model._orig_mod is compiled.model
    assert plain.forward_model is plain.model
    for trainer in (compiled, plain):
        trainer.train()
    assert compiled.curve[-1].val_loss == pytest.approx(plain.curve[-1].val_loss, abs=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch
def test_auto_compiles_on_cuda_only(tokens, tokenizer, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: name)
    model = make_trainer(tokens, tokenizer).model
    for choice, device, compiles in [
        ("off", "cuda", False),
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("on", "cpu", True),
    ]:
        compiled = compile_model(model, train_params(compile=choice), torch.device(device))
        assert (compiled is not model) == compiles
