"""From parameters and text to a model, fitted as far as counting goes, and the trainer that takes it from there."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stages.core.device import ComputeParams, training_dtype
from stages.core.errors import ModelError
from stages.metrics.losses import spread
from stages.models.base import LanguageModel, build, count_parameters
from stages.models.ngram.cross_fitting import CrossFitted
from stages.models.ngram.ram_check import check_memory
from stages.models.params import ModelParams
from stages.tokenizers.token_files import Source
from stages.train.batches import Batches
from stages.train.distributed import Processes
from stages.train.optimizers import make_optimizers
from stages.train.params import TrainParams
from stages.train.sharding import shard
from stages.train.trainer import Trainer


def set_up(
    model_params: ModelParams,
    params: TrainParams,
    compute: ComputeParams,
    vocabulary_size: int,
    train: Tensor,
    val: Tensor,
    sources: Sequence[Source] = (),
    processes: Processes | None = None,
    first: LanguageModel | None = None,
) -> tuple[LanguageModel, Trainer | None]:
    """Make a model with fresh weights by `train.seed`, count what it counts, and put its trainer together.

    Args:
        model_params: what it is.
        params: how it learns.
        compute: in which precision.
        vocabulary_size: V.
        train: ids to learn from, (N,), on the device that the model shall be on.
        val: ids for the curve, (M,), there too.
        sources: of the training text, with their weights.
        processes: which of several processes this is.
        first: a model of the same kind and sizes whose weights to begin with; what is counted is counted anew.

    Raises:
        WorkError: where the text cannot be counted in the memory that is free.
        ModelError: where `first` has other sizes.

    Returns:
        the model, and no trainer where no gradient has anything to teach it.
    """
    check_memory(model_params, len(train), vocabulary_size)
    torch.manual_seed(params.seed)
    model = build(model_params, vocabulary_size)
    if first:
        copy_weights(first, model)
    processes = processes or Processes()
    if params.shard and count_parameters(model):
        shard(model, train.device)  # part by part: the whole of it need not fit there
    model.to(train.device)
    counted = model.fit(train)
    if not count_parameters(model):
        return model, None
    model.stream_dtype = training_dtype(compute, train.device)
    prior = None
    if counted:
        prior = CrossFitted(counted, vocabulary_size, model_params.folds, model_params.recent).to(train.device)
    part = (processes.rank, processes.count)
    batches = Batches(train, model_params.block_size, params.batch_size, params.seed, prior, part, sources)
    optimizers = make_optimizers(model, params, model.stream_dtype, processes)
    windows = spread(val, model_params.block_size, params.eval_windows)
    return model, Trainer(model, batches, optimizers, windows, params, compiled(model, params, train.device), processes)


def copy_weights(source: LanguageModel, target: LanguageModel) -> None:
    """Copy what gradients have taught.

    Raises:
        ModelError: where the sizes differ.
    """
    weights, wanted = dict(source.named_parameters()), dict(target.named_parameters())
    if {name: each.shape for name, each in weights.items()} != {name: each.shape for name, each in wanted.items()}:
        raise ModelError(f"train.init_from has a model of other sizes ({source.params}); give `model:` the same")
    with torch.no_grad():
        for name, weight in wanted.items():
            weight.copy_(weights[name])


def compiled(model: LanguageModel, params: TrainParams, device: torch.device) -> nn.Module:
    """Compile the model where that pays: `auto` does so on CUDA alone, since a few CPU cores take half a minute."""
    if params.shard:
        return model
    if params.compile == "on" or (params.compile == "auto" and device.type == "cuda"):
        model_compiled: nn.Module = torch.compile(model)  # type: ignore[assignment]
        return model_compiled
    return model
