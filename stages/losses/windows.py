"""Cut a text into windows, for training and evaluation."""

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
        first_scored: the first position whose prediction is scored; earlier ones are context only.
        train_positions: where in the training text the inputs are, (B, T), as in `LanguageModel.forward`.
    """

    inputs: Tensor
    targets: Tensor
    first_scored: int = 0
    train_positions: Tensor | None = None

    @classmethod
    def at(cls, tokens: Tensor, positions: Tensor) -> "Windows":
        """Return the windows of the training text, (N,), at given positions, (B, T); each is followed by a token."""
        return cls(tokens[positions].long(), tokens[positions + 1].long(), train_positions=positions)

    @property
    def num_scored(self) -> int:
        """Return the number of predictions that are scored."""
        return self.targets[:, self.first_scored :].numel()

    def batches(self, size: int) -> "Iterator[Windows]":
        """Yield the windows in batches of at most `size`."""
        for start in range(0, len(self.inputs), size):
            yield self.rows(slice(start, start + size))

    def rows(self, rows: slice) -> "Windows":
        """Return some of the windows."""
        positions = None if self.train_positions is None else self.train_positions[rows]
        return Windows(self.inputs[rows], self.targets[rows], self.first_scored, positions)


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
    tokens: Tensor, block_size: int, stride: int, batch_size: int, skip_block_windows: bool = False
) -> Iterator[Windows]:
    """Yield overlapping windows of a text, (N,), each of which predicts `stride` new tokens.

    Each token but the first is predicted once; each after the first block has at least `block_size - stride` tokens of
    context.

    Args:
        tokens: token ids, (N,).
        block_size: tokens per window.
        stride: tokens between the starts of two windows.
        batch_size: windows per batch.
        skip_block_windows: leave out the windows that `blockwise_windows` yields as well; see `is_scored_in_blocks`.
    """
    if not skip_block_windows:
        head = tokens[: block_size + 1].long()
        yield Windows(head[None, :-1], head[None, 1:])
    starts = _sliding_starts(len(tokens), block_size, stride)
    remaining = len(tokens) - 1 - (block_size + len(starts) * stride)
    if skip_block_windows:
        starts = starts[starts % block_size != 0]
    yield from _in_batches(tokens, starts, block_size, batch_size, first_scored=block_size - stride)
    if remaining > 0:
        tail = tokens[-block_size - 1 :].long()
        yield Windows(tail[None, :-1], tail[None, 1:], len(tail) - 1 - remaining)


def is_scored_in_blocks(length: int, block_size: int, stride: int) -> Tensor:
    """Return which tokens `sliding_windows` leaves to `blockwise_windows`, which gives them the same context.

    Args:
        length: tokens of the text.
        block_size: tokens per window.
        stride: tokens between the starts of two sliding windows.

    Returns:
        for each token except the first, (length - 1,), whether `sliding_windows(skip_block_windows=True)` leaves it
        out.
    """
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

    Raises:
        ValueError: if the text has no window that is followed by a token.
    """
    count = min(count, (len(tokens) - 1) // block_size)
    if count < 1:
        raise ValueError(f"a text of {len(tokens)} tokens has no window of {block_size} tokens that a token follows")
    starts = torch.linspace(0, len(tokens) - 1 - block_size, count, dtype=torch.float64).long()
    return next(_in_batches(tokens, starts, block_size, count))


def held_out_windows(tokens: Tensor, start: int, block_size: int, count: int) -> Windows:
    """Return evenly spaced windows of the training text from position `start` on, with their `train_positions`."""
    positions = evenly_spaced_windows(torch.arange(start, len(tokens)), block_size, count).inputs.to(tokens.device)
    return Windows.at(tokens, positions)


def subsample(tokens: Tensor, max_tokens: int, parts: int) -> Tensor:
    """Return a text, (N,), or, if it is longer than `max_tokens`, as many tokens in `parts` pieces spaced evenly."""
    if len(tokens) <= max_tokens:
        return tokens
    length = -(-max_tokens // parts)
    starts = torch.linspace(0, len(tokens) - length, parts, dtype=torch.float64).long().tolist()
    return torch.cat([tokens[start : start + length] for start in starts])[:max_tokens]


def _in_batches(
    tokens: Tensor, starts: Tensor, block_size: int, batch_size: int, first_scored: int = 0
) -> Iterator[Windows]:
    for index in range(0, len(starts), batch_size):
        positions = (starts[index : index + batch_size, None] + torch.arange(block_size)).to(tokens.device)
        yield Windows(tokens[positions].long(), tokens[positions + 1].long(), first_scored)
