"""Text from a model, character by character, each read once."""

import torch
from torch import Tensor

from stages.models.base import LanguageModel
from stages.models.cache import Cache


@torch.inference_mode()
def generate(
    model: LanguageModel, prompt: Tensor, length: int, temperature: float, top_k: int, seeds: list[int]
) -> Tensor:
    """Write on from `prompt`.

    A model sees at most a block. When that is full, its older half is forgotten and the newer half read anew, so that
    what a character costs does not grow with what was written.

    Args:
        model: in evaluation mode, on the device of `prompt`.
        prompt: ids, (B, T), T >= 1.
        length: characters to write.
        temperature: divides the logits; 0 takes the likeliest character.
        top_k: draw among so many of the likeliest; 0: among all.
        seeds: one for each row, so that a sample does not depend on its neighbours.

    Returns:
        the new ids alone, (B, length).
    """
    luck = uniform_numbers(seeds, length).to(prompt.device)
    block_size = model.params.block_size
    window, cache = prompt[:, -block_size:], Cache()
    written = []
    for at in range(length):
        if window.shape[1] > block_size:
            window, cache = window[:, -max(1, block_size // 2) :], Cache()
        logits = model.next_logits(window, cache).float()
        written.append(choose(logits, temperature, top_k, luck[:, at]))
        window = torch.cat((window, written[-1]), dim=1)
    return torch.cat(written, dim=1)


def uniform_numbers(seeds: list[int], length: int) -> Tensor:
    """Draw `length` numbers between 0 and 1 for each seed, on the CPU: (B, length)."""
    return torch.stack([torch.rand(length, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def choose(logits: Tensor, temperature: float, top_k: int, luck: Tensor) -> Tensor:
    """Pick one id for each row of `logits`, (B, V): (B, 1).

    `luck`, (B,), between 0 and 1, says where in the cumulated distribution: the same number, the same character.
    """
    if temperature == 0.0:
        return logits.argmax(-1, keepdim=True)
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    cumulated = (logits.double() / temperature).softmax(-1).cumsum(-1)
    return torch.searchsorted(cumulated, luck.double()[:, None] * cumulated[:, -1:], right=True).clamp_(
        max=logits.shape[-1] - 1
    )
