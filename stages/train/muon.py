"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): momentum, made orthogonal.

torch.optim.Muon is the same method, one two-dimensional matrix at a time and always in bfloat16. A small model has many
small matrices of few shapes, and here those of one shape go through together, in the precision that the device is
fast in.
"""

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor
from torch.optim import Optimizer

from stages.train.distributed import Processes
from stages.train.sharding import part_like, whole

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration: steepest at zero


class Muon(Optimizer):
    """For matrices, (…, rows, columns): what comes before the last two dimensions counts matrices.

    Args:
        params: the matrices.
        lr: learning rate; a matrix moves by lr · sqrt(max(1, rows / columns)) times an orthogonal matrix.
        momentum: of the Nesterov kind.
        weight_decay: decoupled, times lr.
        steps: Newton–Schulz steps.
        dtype: in which those are taken.
        processes: that move the same matrices, each making its part of them orthogonal.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        steps: int = 5,
        dtype: torch.dtype = torch.float32,
        processes: Processes | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.steps, self.dtype, self.processes = steps, dtype, processes or Processes()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - no closures here
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(tuple(sorted(matrix.shape[-2:])), []).append(matrix)
            for matrices in by_shape.values():
                for some in self._together(matrices):
                    self._move(some, group)

    def _together(self, matrices: list[Tensor]) -> Iterator[list[Tensor]]:
        """Give those that go through together: all, or, where they are in parts, few, since they are made whole."""
        if not hasattr(matrices[0], "full_tensor"):
            yield matrices
            return
        some: list[Tensor] = []
        for matrix in matrices:
            some.append(matrix)
            if sum(each.shape[:-2].numel() for each in some) >= self.processes.count:
                yield some
                some = []
        if some:
            yield some

    def _move(self, matrices: list[Tensor], group: dict[str, float]) -> None:
        updates = [whole(self._momentum(matrix, group["momentum"])) for matrix in matrices]
        stacked = torch.cat([_tall(update) for update in updates])
        moves = self.processes.share_out(partial(orthogonalize, steps=self.steps, dtype=self.dtype), stacked)
        start = 0
        for matrix in matrices:
            rows, columns = matrix.shape[-2:]
            part = moves[start : start + matrix.shape[:-2].numel()]
            start += len(part)
            update = part if rows >= columns else part.mT
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            update = part_like(update.reshape(matrix.shape), matrix)
            matrix.add_(update, alpha=-group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _momentum(self, matrix: Tensor, momentum: float) -> Tensor:
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        average: Tensor = state["momentum"]
        average.lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(average, momentum)


def orthogonalize(matrices: Tensor, steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Bring every singular value near one by Newton–Schulz: (N, rows, columns), rows >= columns, float32 out."""
    a, b, c = COEFFICIENTS
    x = (matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(steps):
        gram = x.mT @ x
        x = torch.baddbmm(x, x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), beta=a)
    out: Tensor = x.float()
    return out


def _tall(update: Tensor) -> Tensor:
    matrices = update.reshape(-1, *update.shape[-2:])
    return matrices if matrices.shape[-2] >= matrices.shape[-1] else matrices.mT
