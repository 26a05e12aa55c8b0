"""Build a model from its parameters, count n-grams if it needs them, and create its trainer."""

import os
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.core.compute_params import ComputeParams
from stages.core.device import cached_tensor, select_dtype
from stages.core.errors import ModelError, ParameterError
from stages.core.logs import log
from stages.losses.windows import evenly_spaced_windows, held_out_windows
from stages.models.base import LanguageModel, build_model, count_parameters
from stages.models.params import ModelParams
from stages.tokenizers.token_files import TokenSource
from stages.train.batches import BatchSampler
from stages.train.distributed import World
from stages.train.optimizers import make_optimizers
from stages.train.params import RuntimeParams, TrainParams
from stages.train.trainer import Trainer

MAX_HELD_OUT_WINDOWS = 32
SHAPE_KEYS = {"kind", "block_size", "n_layer", "n_head", "n_embd", "prior", "cache_lm", "context_experts"}


def prepare_training(
    model_params: ModelParams,
    params: TrainParams,
    runtime: RuntimeParams,
    compute: ComputeParams,
    vocab_size: int,
    train: Tensor,
    val: Tensor,
    *,
    token_classes: Tensor | None = None,
    sources: Sequence[TokenSource] = (),
    world: World | None = None,
    initial_model: LanguageModel | None = None,
) -> tuple[LanguageModel, Trainer | None]:
    """Return a new model, with its n-grams counted, and its trainer, or None if it has no trainable weights.

    Args:
        model_params: the architecture.
        params: how to train.
        runtime: how often to log.
        compute: the precision.
        vocab_size: V.
        train: training tokens, (N,), on the device to train on.
        val: validation tokens, (M,), on the same device.
        token_classes: see `Tokenizer.token_classes`, (3, V).
        sources: sources of the training tokens.
        world: the processes that train the model together.
        initial_model: a model to copy the weights of, of an architecture that `check_same_architecture` accepts;
            n-grams are counted again.

    Raises:
        WorkError: if there is not enough memory to count n-grams.
        ParameterError: if the held-out part leaves too little to train on.
    """
    world = world or World()
    torch.manual_seed(params.seed)
    model = build_model(model_params, vocab_size, select_dtype(compute, train.device))
    if initial_model:
        copy_weights(initial_model, model)
    model.to(train.device)
    model.fit(train, token_classes)
    if not count_parameters(model):
        return model, None
    block_size = model_params.block_size
    held_out = None
    sampled = train
    if params.held_out_fraction:
        start = held_out_start(len(train), block_size, params.held_out_fraction)
        sampled, held_out = train[:start], held_out_windows(train, start, block_size, MAX_HELD_OUT_WINDOWS)
    sampler = BatchSampler(
        sampled, params.window_size or block_size, params.batch_size, params.seed, world.rank, world.size, sources
    )
    optimizers = make_optimizers(model, params, model.compute_dtype, world)
    val_windows = evenly_spaced_windows(val, block_size, params.eval_windows)
    forward_model = world.wrap(compile_model(model, params, train.device), train.device)
    trainer = Trainer(
        model,
        sampler,
        optimizers,
        val_windows=val_windows,
        held_out_windows=held_out,
        params=params,
        runtime=runtime,
        forward_model=forward_model,
        world=world,
    )
    return model, trainer


def held_out_start(length: int, block_size: int, fraction: float) -> int:
    """Return where the held-out part of a training text of `length` tokens begins.

    Raises:
        ParameterError: if not both parts hold a window.
    """
    start = length - max(block_size + 1, int(fraction * length))
    if start <= block_size:
        raise ParameterError(
            f"train.held_out_fraction is {fraction}: of {length} training tokens, it leaves {max(0, start)}, but "
            f"model.block_size is {block_size}; "
            + (f"set model.block_size to {(length - 2) // 2} or less" if length > 3 else "use a longer text")
        )
    return start


def check_window_size(model_params: ModelParams, params: TrainParams) -> None:
    """Check that the model can be trained on windows of `train.window_size`.

    Raises:
        ParameterError: if they are longer than a block, or shorter and the model is not `gpt`. Others may learn an
            embedding of each position, which shorter windows would leave untrained.
    """
    if params.window_size > model_params.block_size:
        raise ParameterError(
            f"train.window_size is {params.window_size}: it must be at most model.block_size, "
            f"{model_params.block_size}; 0 makes it equal"
        )
    if 0 < params.window_size < model_params.block_size and model_params.kind != "gpt":
        raise ParameterError(
            f"train.window_size is {params.window_size}, less than model.block_size {model_params.block_size}: only "
            f"gpt can be trained on shorter windows, not {model_params.kind}; set train.window_size to 0"
        )


def copy_weights(source: LanguageModel, target: LanguageModel) -> None:
    """Copy the trainable weights of a model of the same architecture."""
    weights = dict(source.named_parameters())
    with torch.no_grad():
        for name, weight in target.named_parameters():
            weight.copy_(weights[name])


def check_same_architecture(source: LanguageModel, target: LanguageModel) -> None:
    """Check that `target` can get the trainable weights of `source`.

    Raises:
        ModelError: if it cannot.
    """
    weights, targets = dict(source.named_parameters()), dict(target.named_parameters())
    if {name: weight.shape for name, weight in weights.items()} != {name: t.shape for name, t in targets.items()}:
        # Positions in `gpt` are relative, so no weight depends on its block size.
        keys = SHAPE_KEYS - {"block_size"} if target.params.kind == "gpt" else SHAPE_KEYS
        wanted = target.params.model_dump(include=keys)
        found = {name: value for name, value in source.params.model_dump().items() if value != wanted.get(name, value)}
        differences = ", ".join(f"model.{name} is {value} there, {wanted[name]} here" for name, value in found.items())
        raise ModelError(
            f"train.init_from has a model of another architecture ({differences}); set `model:` to its values"
        )


def missing_for_compilation(device: torch.device) -> str | None:
    """Return which program or file PyTorch needs to compile a model and this machine lacks, and what to do, or None."""
    if device.type == "cpu":
        variable, compilers = "CXX", ["clang++" if sys.platform == "darwin" else "g++"]
    else:  # Triton builds a part of itself
        variable, compilers = "CC", ["gcc", "clang"]
    compiler = os.environ.get(variable)
    if not any(map(shutil.which, [compiler] if compiler else compilers)):
        name = compiler or " or ".join(compilers)
        return f"there is no compiler '{name}'; install it, set {variable} to another one"
    if not (headers := Path(sysconfig.get_path("include"), "Python.h")).exists():
        return f"{headers} is missing; install Python's headers (on Debian and Ubuntu: apt install python3-dev)"
    return None


def compile_model(model: LanguageModel, params: TrainParams, device: torch.device) -> nn.Module:
    """Return the model, compiled if `train.compile` says so; `auto` compiles on CUDA only.

    Compilation takes half a minute on a few CPU cores, which short runs do not recover.

    Raises:
        ParameterError: if `train.compile` is `on`, and this machine lacks what PyTorch needs for it.
    """
    if params.compile == "on" or (params.compile == "auto" and device.type == "cuda"):
        if missing := missing_for_compilation(device):
            if params.compile == "on":
                raise ParameterError(f"train.compile is on, but {missing}, or set train.compile to off")
            log.warning("training without torch.compile, which is slower: %s", missing)
            return model
        # The compiler's remarks about its own work, which a user of Folio can do nothing about.
        warnings.filterwarnings("ignore", module=r"torch\._(dynamo|inductor)")
        # `prepare_device` has not told the compiler, because that imports it.
        torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled())
        # Not as decorators, which import the compiler: a second and 90 MB, in every stage.
        torch.compiler.assume_constant_result(cached_tensor)  # type: ignore[no-untyped-call]
        for name in model.uncompiled_methods:
            setattr(model, name, torch.compiler.disable(getattr(model, name)))  # type: ignore[no-untyped-call]
        compiled: nn.Module = torch.compile(model)  # type: ignore[assignment]
        return compiled
    return model
