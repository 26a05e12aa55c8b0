"""Which optimizer moves which weight."""

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from stages.train.distributed import Processes
from stages.train.muon import Muon
from stages.train.params import TrainParams


def make_optimizers(
    model: nn.Module, params: TrainParams, dtype: torch.dtype, processes: Processes | None = None
) -> list[Optimizer]:
    """Make the optimizers of `train.optimizer`; each group keeps its full rate as `base_lr`.

    `muon`: Muon for the matrices of the blocks, Adam for embedding tables, and for what is left (head, prior's map,
    single numbers). `adamw`: one AdamW for everything.
    """
    if params.optimizer == "adamw":
        decay = params.weight_decay
        optimizers: list[Optimizer] = [AdamW(model.parameters(), params.lr, (0.9, 0.99), weight_decay=decay)]
    else:
        optimizers = _muon_and_adam(model, params, dtype, processes)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def _muon_and_adam(
    model: nn.Module, params: TrainParams, dtype: torch.dtype, processes: Processes | None
) -> list[Optimizer]:
    matrices, tables, rest = [], [], []
    for path, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if isinstance(module, nn.Embedding):
                tables.append(parameter)
            elif path.startswith("blocks.") and parameter.ndim >= 2:
                matrices.append(parameter)
            else:
                rest.append(parameter)
    groups = [{"params": tables, "lr": params.lr_embedding}, {"params": rest, "lr": params.lr_head}]
    groups = [group for group in groups if group["params"]]
    adam = AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    if not matrices:
        return [adam]
    return [Muon(matrices, params.lr, weight_decay=params.weight_decay, dtype=dtype, processes=processes), adam]
