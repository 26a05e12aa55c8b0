"""Cut a text into windows for evaluation."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """A batch of windows of a text.

    Attributes:
        inputs: token ids, (B, T) int64.
        targets: the token that follows each input, (B, T) int64.
        first_counted: the first position whose prediction counts.
        text_positions: for windows of the training text, where they are in it, (B, T); see `LanguageModel.forward`.
    """

    inputs: Tensor
    targets: Tensor
    first_counted: int = 0
    text_positions: Tensor | None = None

    @property
    def count(self) -> int:
        """Return the number of predictions that count."""
        return self.targets[:, self.first_counted :].numel()

    def batches(self, size: int) -> "Iterator[Windows]":
        """Yield the windows in batches of at most `size`."""
        for start in range(0, len(self.inputs), size):
            yield self.rows(slice(start, start + size))

    def rows(self, rows: slice) -> "Windows":
        """Return some of the windows."""
        positions = None if self.text_positions is None else self.text_positions[rows]
        return Windows(self.inputs[rows], self.targets[rows], self.first_counted, positions)


def blockwise_windows(tokens: Tensor, block_size: int, batch_size: int) -> Iterator[Windows]:
    """Yield consecutive windows of a text, (N,), including a shorter last one.

    Each token but the first is predicted once, with no context before its window.
    """
    starts = torch.arange(0, max(0, len(tokens) - block_size), block_size)
    yield from _in_batches(tokens, starts, block_size, batch_size)
    predicted = (len(tokens) - 1) // block_size * block_size
    rest = tokens[predicted:].long()
    if len(rest) > 1:
        yield Windows(rest[None, :-1], rest[None, 1:])


def sliding_windows(
    tokens: Tensor, block_size: int, stride: int, batch_size: int, without_blocks: bool = False
) -> Iterator[Windows]:
    """Yield overlapping windows of a text, (N,), each of which predicts `stride` new tokens.

    Each token but the first is predicted once; each after the first block has at least `block_size - stride` tokens of
    context.

    Args:
        tokens: token ids, (N,).
        block_size: tokens per window.
        stride: distance of two windows.
        batch_size: windows per batch.
        without_blocks: leave out the windows that `blockwise_windows` yields as well; see `predicted_in_blocks`.
    """
    if not without_blocks:
        head = tokens[: block_size + 1].long()
        yield Windows(head[None, :-1], head[None, 1:])
    starts = _sliding_starts(len(tokens), block_size, stride)
    remaining = len(tokens) - 1 - (block_size + len(starts) * stride)
    if without_blocks:
        starts = starts[starts % block_size != 0]
    yield from _in_batches(tokens, starts, block_size, batch_size, first_counted=block_size - stride)
    if remaining > 0:
        tail = tokens[-block_size - 1 :].long()
        yield Windows(tail[None, :-1], tail[None, 1:], len(tail) - 1 - remaining)


def predicted_in_blocks(length: int, block_size: int, stride: int) -> Tensor:
    """Return which tokens but the first of a text `sliding_windows` leaves to `blockwise_windows`, (length - 1,)."""
    is_in_blocks = torch.arange(length - 1) < block_size
    for start in _sliding_starts(length, block_size, stride).tolist():
        if start % block_size == 0:
            is_in_blocks[start + block_size - stride : start + block_size] = True
    return is_in_blocks


def _sliding_starts(length: int, block_size: int, stride: int) -> Tensor:
    """Return where the windows of `sliding_windows` begin, but for the first and the last one."""
    return torch.arange(stride, max(stride, length - block_size), stride)


def evenly_spaced_windows(tokens: Tensor, block_size: int, count: int) -> Windows:
    """Return non-overlapping windows spaced evenly over a text, as one batch.

    Args:
        tokens: token ids, (N,).
        block_size: tokens per window (T).
        count: number of windows requested; fewer are returned if the text is too short.

    Returns:
        one batch of windows with inputs and targets of shape (B, T), int64.
    """
    count = min(count, (len(tokens) - 1) // block_size)
    starts = torch.linspace(0, len(tokens) - 1 - block_size, count, dtype=torch.float64).long()
    return next(_in_batches(tokens, starts, block_size, count))


def held_out_windows(tokens: Tensor, start: int, block_size: int, count: int) -> Windows:
    """Return windows, as `evenly_spaced_windows`, of the part of the training text that begins at `start`."""
    positions = evenly_spaced_windows(torch.arange(start, len(tokens)), block_size, count).inputs.to(tokens.device)
    return Windows(tokens[positions].long(), tokens[positions + 1].long(), text_positions=positions)


def subsample(tokens: Tensor, max_tokens: int, parts: int) -> Tensor:
    """Return a text, (N,), or, if it is longer than `max_tokens`, as many tokens in `parts` pieces spaced evenly."""
    if len(tokens) <= max_tokens:
        return tokens
    length = -(-max_tokens // parts)
    starts = torch.linspace(0, len(tokens) - length, parts, dtype=torch.float64).long().tolist()
    return torch.cat([tokens[start : start + length] for start in starts])[:max_tokens]


def _in_batches(
    tokens: Tensor, starts: Tensor, block_size: int, batch_size: int, first_counted: int = 0
) -> Iterator[Windows]:
    for index in range(0, len(starts), batch_size):
        positions = (starts[index : index + batch_size, None] + torch.arange(block_size)).to(tokens.device)
        yield Windows(tokens[positions].long(), tokens[positions + 1].long(), first_counted)
