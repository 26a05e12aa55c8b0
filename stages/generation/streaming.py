"""Text from a model, token by token, each read once."""

from collections.abc import Iterator

import torch
from torch import Tensor

from stages.generation.decoding import reader_of
from stages.generation.sampling import Choice
from stages.models.base import LanguageModel


@torch.inference_mode()
def stream(
    model: LanguageModel, prompt: Tensor, length: int, choice: Choice, seeds: list[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Write on from `prompt`, one token of every row at a time.

    What a token costs does not grow with what was written: `reading.py` says what is forgotten.

    Args:
        model: in evaluation mode, on the device of `prompt`.
        prompt: ids, (B, T), T >= 1.
        length: tokens to write.
        choice: how freely to draw.
        seeds: one for each row, so that a sample does not depend on its neighbours.

    Yields:
        the new ids, (B, 1), and the model's log-probability of each, (B, 1), whatever `choice` made of it.
    """
    luck = uniform_numbers(seeds, length)
    reader, ids = reader_of(model), prompt
    for at in range(length):
        logits = reader.read(ids).float()
        # On the CPU: so little work is soonest done there, and CUDA's cumulated sums are not the same on every run.
        ids = choice.pick(logits.cpu(), luck[:, at]).to(prompt.device)
        yield ids, logits.log_softmax(-1).gather(-1, ids)


def generate(model: LanguageModel, prompt: Tensor, length: int, choice: Choice, seeds: list[int]) -> Tensor:
    """Give all that `stream` yields, the new ids alone: (B, length)."""
    return torch.cat([ids for ids, _ in stream(model, prompt, length, choice, seeds)], dim=1)


def uniform_numbers(seeds: list[int], length: int) -> Tensor:
    """Draw `length` numbers between 0 and 1 for each seed, on the CPU: (B, length)."""
    return torch.stack([torch.rand(length, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
