"""Muon: momentum with orthogonalized updates (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

torch.optim.Muon is the same method, but processes one two-dimensional matrix at a time, always in bfloat16. A small
model has many small matrices of few shapes; here all matrices of one shape are orthogonalized together, in the
precision that the device is fast in, and the work is divided among processes.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor
from torch.optim import Optimizer

from stages.train.distributed import World

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration


class Muon(Optimizer):
    """Muon for matrices, (…, rows, columns); leading dimensions are batch dimensions.

    Args:
        params: the matrices.
        lr: learning rate; an update is lr * sqrt(max(1, rows / columns)) times a nearly semi-orthogonal matrix.
        momentum: Nesterov momentum.
        weight_decay: decoupled, multiplied by lr.
        newton_schulz_steps: iterations of the orthogonalization.
        dtype: precision of the orthogonalization.
        world: processes that hold the same matrices and divide the work.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        newton_schulz_steps: int = 5,
        dtype: torch.dtype = torch.float32,
        world: World | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.newton_schulz_steps, self.dtype, self.world = newton_schulz_steps, dtype, world or World()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - closures are not supported
        """Update every matrix that has a gradient."""
        for param_group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for matrix in param_group["params"]:
                if matrix.grad is not None:
                    by_shape.setdefault(tuple(sorted(matrix.shape[-2:])), []).append(matrix)
            for matrices in by_shape.values():
                self._update(matrices, param_group)

    def _update(self, matrices: list[Tensor], param_group: dict[str, float]) -> None:
        directions = [self._nesterov_momentum(matrix, param_group["momentum"]) for matrix in matrices]
        stacked = torch.cat([_as_tall_matrices(direction) for direction in directions])
        work = partial(orthogonalize, steps=self.newton_schulz_steps, dtype=self.dtype)
        updates = self.world.divide_work(work, stacked)
        start = 0
        for matrix in matrices:
            rows, columns = matrix.shape[-2:]
            update = updates[start : start + matrix.shape[:-2].numel()]
            start += len(update)
            update = update if rows >= columns else update.mT
            matrix.mul_(1 - param_group["lr"] * param_group["weight_decay"])
            matrix.add_(update.reshape(matrix.shape), alpha=-param_group["lr"] * max(1.0, rows / columns) ** 0.5)

    def _nesterov_momentum(self, matrix: Tensor, momentum: float) -> Tensor:
        assert matrix.grad is not None
        state = self.state[matrix]
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        average: Tensor = state["momentum"]
        average.lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(average, momentum)


def orthogonalize(matrices: Tensor, steps: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return matrices with singular values near one, by Newton–Schulz iteration, in float32.

    Args:
        matrices: (N, rows, columns), rows >= columns.
        steps: iterations.
        dtype: precision of the iterations.
    """
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    x = (matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(steps):
        gram = x.mT @ x
        x = torch.baddbmm(x, x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), beta=a)
    out: Tensor = x.float()
    return out


def _as_tall_matrices(direction: Tensor) -> Tensor:
    matrices = direction.reshape(-1, *direction.shape[-2:])
    return matrices if matrices.shape[-2] >= matrices.shape[-1] else matrices.mT
