"""Windows of the text, the token that follows each position, and what counting says of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stages.models.ngram.cross_fitting import CrossFitted
from stages.tokenizers.token_files import Source


def random_positions(length: int, block_size: int, batch_size: int, generator: torch.Generator) -> Tensor:
    """Draw windows uniformly, with replacement: the positions of their tokens, (B, T).

    Every window has a token after it: positions run to `length - 2`. The generator is on the CPU, so that every
    device draws the same windows.
    """
    starts = torch.randint(length - block_size, (batch_size, 1), generator=generator)
    return starts + torch.arange(block_size)


def weighted_positions(
    length: int, block_size: int, batch_size: int, generator: torch.Generator, sources: Sequence[Source]
) -> Tensor:
    """Draw windows that begin in each source in proportion to its length times its weight: (B, T), as above."""
    bounds = torch.tensor([*(each.start for each in sources), length]).clamp(max=length - block_size)
    lengths = bounds.diff().double()
    weights = torch.tensor([each.weight for each in sources], dtype=torch.float64)
    chosen = torch.multinomial(lengths * weights, batch_size, replacement=True, generator=generator)
    within = torch.rand(batch_size, dtype=torch.float64, generator=generator) * lengths[chosen]
    return (bounds[chosen] + within.long())[:, None] + torch.arange(block_size)


@dataclass(frozen=True)
class Batch:
    """`inputs` and `targets`, (B, T) int64, targets one token on; `log_prior`, (B, T, experts, V), or None."""

    inputs: Tensor
    targets: Tensor
    log_prior: Tensor | None


class Batches:
    """Draws batches from the training text.

    Args:
        tokens: ids, (N,), any integer type, on the device that batches shall be on.
        block_size: T.
        batch_size: B.
        seed: of the draws, and of nothing else.
        prior: the cross-fitted prior, on the same device.
        part: this process's number, from 0, and of how many: each takes its windows of what all draw.
        sources: of the text; where their weights differ, they decide how often windows begin in each.
    """

    def __init__(
        self,
        tokens: Tensor,
        block_size: int,
        batch_size: int,
        seed: int,
        prior: CrossFitted | None = None,
        part: tuple[int, int] = (0, 1),
        sources: Sequence[Source] = (),
    ) -> None:
        self.tokens, self.block_size, self.batch_size, self.prior = tokens, block_size, batch_size, prior
        self.rank, self.count = part
        self.sources = sources if len({each.weight for each in sources}) > 1 else ()
        self.generator = torch.Generator().manual_seed(seed)

    def draw_step(self, accumulate: int) -> Iterator[Batch]:
        """Draw the `accumulate` batches of a step; give those, or the parts of those, that are this process's."""
        windows_shared = self.batch_size % self.count == 0
        for index in range(accumulate):
            positions = self._positions()
            if windows_shared:
                yield self._batch(positions[self.rank :: self.count])
            elif index % self.count == self.rank:
                yield self._batch(positions)

    def draw(self) -> Batch:
        """Draw the next batch, or the part of it that is this process's."""
        return next(self.draw_step(1))

    def _positions(self) -> Tensor:
        given = len(self.tokens), self.block_size, self.batch_size, self.generator
        return weighted_positions(*given, self.sources) if self.sources else random_positions(*given)

    def _batch(self, positions: Tensor) -> Batch:
        positions = positions.to(self.tokens.device)
        inputs, targets = self.tokens[positions].long(), self.tokens[positions + 1].long()
        log_prior = self.prior.opinions(inputs, positions) if self.prior else None
        return Batch(inputs, targets, log_prior)
