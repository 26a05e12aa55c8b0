"""Windows of the text, and the character that follows each position."""

import torch
from torch import Tensor


def random_batch(tokens: Tensor, block_size: int, batch_size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw windows uniformly, with replacement.

    Args:
        tokens: the text's ids, (N,), any integer type, N > block_size, on the device that the batch shall be on.
        block_size: T, positions a window.
        batch_size: B, windows.
        generator: on the CPU, so that every device draws the same windows.

    Returns:
        inputs and targets, each (B, T) int64; `targets[b, t]` is the character after `inputs[b, t]`.
    """
    starts = torch.randint(len(tokens) - block_size, (batch_size, 1), generator=generator)
    windows = tokens[(starts + torch.arange(block_size + 1)).to(tokens.device)].long()
    return windows[:, :-1], windows[:, 1:]
