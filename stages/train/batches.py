"""Sample batches of windows from the training text."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from stages.losses.windows import Windows
from stages.tokenizers.token_files import TokenSource


class BatchSampler:
    """Sample windows uniformly, with replacement.

    Args:
        tokens: training tokens, (N,), of any integer type, on the device of the batches.
        window_size: tokens per window (T).
        batch_size: windows per batch (B), over all processes.
        seed: seed of the sampler's own generator.
        rank: index of this process, from 0.
        world_size: number of processes; all sample the same windows, and each uses its share.
        sources: sources of the training text; if their weights differ, windows are sampled by them.
    """

    def __init__(
        self,
        tokens: Tensor,
        window_size: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        sources: Sequence[TokenSource] = (),
    ) -> None:
        self.tokens, self.window_size, self.batch_size = tokens, window_size, batch_size
        self.rank, self.world_size = rank, world_size
        self.sources = sources if len({source.weight for source in sources}) > 1 else ()
        self.generator = torch.Generator().manual_seed(seed)  # on the CPU, so that every device gets the same windows

    def sample_step(self, grad_accum_steps: int) -> Iterator[Windows]:
        """Yield this process's share of the batches of one optimizer step.

        The processes share the windows of each batch if they can be divided evenly, and whole batches otherwise.
        """
        divides_windows = self.batch_size % self.world_size == 0
        for index in range(grad_accum_steps):
            positions = self._sample_positions()
            if divides_windows:
                yield self._batch(positions[self.rank :: self.world_size])
            elif index % self.world_size == self.rank:
                yield self._batch(positions)

    def sample(self) -> Windows:
        """Return this process's share of the next batch."""
        return next(self.sample_step(1))

    def _sample_positions(self) -> Tensor:
        sizes = len(self.tokens), self.window_size, self.batch_size
        if self.sources:
            return sample_weighted_positions(*sizes, self.generator, self.sources)
        return sample_positions(*sizes, self.generator)

    def _batch(self, positions: Tensor) -> Windows:
        positions = positions.to(self.tokens.device, non_blocking=True)  # a GPU takes its work without waiting
        return Windows.at(self.tokens, positions)


def sample_positions(length: int, window_size: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """Return the positions of uniformly sampled windows, (B, T); every window is followed by a token."""
    starts = torch.randint(length - window_size, (batch_size, 1), generator=generator)
    return starts + torch.arange(window_size)


def sample_weighted_positions(
    length: int, window_size: int, batch_size: int, generator: torch.Generator, sources: Sequence[TokenSource]
) -> Tensor:
    """Return the positions of windows sampled from each source in proportion to its length times its weight, (B, T).

    Args:
        length: length of the training text, in tokens.
        window_size: T.
        batch_size: B.
        generator: generator of random numbers, on the CPU.
        sources: where the sources begin, and their weights.
    """
    bounds = torch.tensor([*(source.start for source in sources), length])
    weights = torch.tensor([source.weight for source in sources], dtype=torch.float64)
    indices = torch.multinomial(bounds.diff() * weights, batch_size, replacement=True, generator=generator)
    first = bounds.clamp(max=length - window_size - 1)  # a short last source is in the last windows
    room = bounds.clamp(max=length - window_size).diff().clamp(min=1)
    offsets = torch.rand(batch_size, dtype=torch.float64, generator=generator) * room[indices]
    return (first[indices] + offsets.long())[:, None] + torch.arange(window_size)
