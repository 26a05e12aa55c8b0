"""A model shared out among processes: each holds its part of every weight, of gradients and of optimizer state.

torch's FSDP2 (`fully_shard`) brings a block's weights together just before the block is worked out, and throws them
away afterwards; gradients are averaged and shared out on the way back. The parts are DTensors, cut along the first
dimension, on which optimizers work as on any tensor. What is imported here takes more than half a second: only where it
is needed.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stages.models.base import LanguageModel


def shard(model: LanguageModel, device: torch.device) -> None:
    """Leave this process its part of the weights, on `device`; the processes are connected."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in getattr(model, "blocks", ()):
        fully_shard(block, mesh=mesh)
    # The outermost is left whole after a forward pass unless told otherwise, and there is not always a backward pass.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def whole(tensor: Tensor) -> Tensor:
    """Give a tensor whole, of which every process may hold a part; all of them must ask for it."""
    gather: Any = getattr(tensor, "full_tensor", None)
    full: Tensor = gather() if gather else tensor
    return full


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Do the reverse: give of a whole tensor, which every process has, what this one holds of `like`."""
    mesh: Any = getattr(like, "device_mesh", None)
    if mesh is None:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    placements: Any = like.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.to(like.device), mesh, placements, src_data_rank=None)
