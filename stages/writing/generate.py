"""Text from a model, character by character."""

import torch
from torch import Tensor

from stages.models.base import LanguageModel


@torch.inference_mode()
def generate(
    model: LanguageModel,
    prompt: Tensor,
    length: int,
    temperature: float,
    top_k: int,
    generator: torch.Generator,
) -> Tensor:
    """Write on from `prompt`.

    Args:
        model: in evaluation mode, on the device of `prompt`.
        prompt: ids, (B, T), T >= 1; the model sees the last block of what there is.
        length: characters to write.
        temperature: divides the logits; 0 takes the likeliest character.
        top_k: draw among so many of the likeliest; 0: among all.
        generator: on the CPU, so that every device draws the same numbers.

    Returns:
        the new ids alone, (B, length).
    """
    ids = prompt
    for _ in range(length):
        logits = model(ids[:, -model.params.block_size :])[:, -1].float()
        ids = torch.cat((ids, choose(logits, temperature, top_k, generator)), dim=1)
    return ids[:, prompt.shape[1] :]


def choose(logits: Tensor, temperature: float, top_k: int, generator: torch.Generator) -> Tensor:
    """Draw one id from each row of `logits`, (B, V): (B, 1)."""
    if temperature == 0.0:
        return logits.argmax(-1, keepdim=True)
    if 0 < top_k < logits.shape[-1]:
        least = logits.topk(top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    probabilities = (logits / temperature).softmax(-1).cpu()
    return torch.multinomial(probabilities, 1, generator=generator).to(logits.device)
