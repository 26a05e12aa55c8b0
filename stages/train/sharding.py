"""A model shared out among processes: each holds its part of every weight, of gradients and of optimizer state.

torch's FSDP2 (`fully_shard`) brings a block's weights together just before the block is worked out, and throws them
away afterwards; gradients are averaged and shared out on the way back. The parts are DTensors, cut along their rows, on
which optimizers work as on any tensor. What is imported here takes more than half a second: only where it is needed.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stages.models.base import LanguageModel


def shard(model: LanguageModel, device: torch.device) -> None:
    """Leave this process its part of the weights, on `device`; the processes are connected."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import Shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))

    def along(weight: nn.Parameter) -> Shard | None:
        """Cut several matrices in one, (N, rows, columns), along their rows: N may be fewer than the processes."""
        return Shard(1) if weight.ndim == 3 and weight.shape[1] % mesh.size() == 0 else None

    for block in getattr(model, "blocks", ()):
        fully_shard(block, mesh=mesh, shard_placement_fn=along)
    # The outermost is left whole after a forward pass unless told otherwise, and there is not always a backward pass.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)


def whole(tensor: Tensor) -> Tensor:
    """Give a tensor whole, of which every process may hold a part; all of them must ask for it."""
    gather: Any = getattr(tensor, "full_tensor", None)
    full: Tensor = gather() if gather else tensor
    return full


def gathered(tensors: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """Give tensors whole, on the CPU, one by one; all processes ask, and those that do not `keep` them get none."""
    found = {}
    for name, tensor in tensors.items():
        full = whole(tensor.detach())
        if keep:
            found[name] = full.cpu().contiguous().clone()
    return found


def part_like(tensor: Tensor, like: Tensor) -> Tensor:
    """Do the reverse: give of a whole tensor, which every process has, what this one holds of `like`."""
    mesh: Any = getattr(like, "device_mesh", None)
    if mesh is None:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    placements: Any = like.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.to(like.device), mesh, placements, src_data_rank=None)
