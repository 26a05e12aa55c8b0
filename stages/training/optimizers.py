"""Which optimizer moves which weight."""

from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from stages.params.train import TrainParams


def make_optimizers(model: nn.Module, params: TrainParams) -> list[Optimizer]:
    """Make the optimizers of `train.optimizer`; each group keeps its full rate as `base_lr`.

    `muon`: Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) for the matrices, Adam for embedding
    tables, head and single numbers. `adamw`: one AdamW for everything.
    """
    if params.optimizer == "adamw":
        groups = [{"params": list(model.parameters()), "lr": params.lr}]
        optimizers: list[Optimizer] = [AdamW(groups, betas=(0.9, 0.99), weight_decay=params.weight_decay)]
    else:
        optimizers = _muon_and_adam(model, params)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def _muon_and_adam(model: nn.Module, params: TrainParams) -> list[Optimizer]:
    matrices, tables, rest = [], [], []
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            if isinstance(module, nn.Embedding):
                tables.append(parameter)
            elif name == "head" or parameter.ndim != 2:
                rest.append(parameter)
            else:
                matrices.append(parameter)
    optimizers: list[Optimizer] = []
    if matrices:
        optimizers.append(Muon(matrices, lr=params.lr, weight_decay=params.weight_decay, momentum=0.95))
    groups = [{"params": tables, "lr": params.lr_embedding}, {"params": rest, "lr": params.lr_head}]
    groups = [group for group in groups if group["params"]]
    optimizers.append(AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0, fused=True))
    return optimizers
