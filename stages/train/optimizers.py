"""Assign every weight to an optimizer."""

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from stages.train.distributed import World
from stages.train.muon import Muon
from stages.train.params import TrainParams


def make_optimizers(
    model: nn.Module, params: TrainParams, dtype: torch.dtype, world: World | None = None
) -> list[Optimizer]:
    """Return the optimizers for `train.optimizer`; each parameter group stores its full learning rate as `base_lr`.

    `muon`: Muon for the matrices of the blocks; Adam for embeddings, and for everything else (output head, n-gram
    features, expert weights). `adamw`: one AdamW for everything.

    Args:
        model: the model to train.
        params: learning rates and weight decay.
        dtype: precision of Muon's orthogonalization.
        world: processes that train the model together.
    """
    if params.optimizer == "adamw":
        optimizers: list[Optimizer] = [
            AdamW(model.parameters(), params.lr, (0.9, 0.99), weight_decay=params.weight_decay)
        ]
    else:
        optimizers = _muon_and_adam(model, params, dtype, world)
    for optimizer in optimizers:
        for param_group in optimizer.param_groups:
            param_group["base_lr"] = param_group["lr"]
    return optimizers


def _muon_and_adam(model: nn.Module, params: TrainParams, dtype: torch.dtype, world: World | None) -> list[Optimizer]:
    matrices, embeddings, others = [], [], []
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if isinstance(module, nn.Embedding):
                embeddings.append(parameter)
            elif path.startswith("blocks.") and parameter.ndim >= 2:
                matrices.append(parameter)
            else:
                others.append(parameter)
    param_groups = [{"params": embeddings, "lr": params.lr_embedding}, {"params": others, "lr": params.lr_head}]
    param_groups = [param_group for param_group in param_groups if param_group["params"]]
    adam = AdamW(param_groups, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    if not matrices:
        return [adam]
    return [Muon(matrices, params.lr, weight_decay=params.weight_decay, dtype=dtype, world=world), adam]
