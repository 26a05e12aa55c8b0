"""Generate text with nothing but `forward`: the reference for `stages/generation`, and the samples during training."""

import torch
from torch import Tensor

from stages.models.base import LanguageModel


@torch.no_grad()
def generate_reference(model: LanguageModel, ids: Tensor, max_new_tokens: int, temperature: float, seed: int) -> Tensor:
    """Return `max_new_tokens` sampled tokens, (B, max_new_tokens); every step processes the whole block again.

    Args:
        model: the model, in evaluation mode.
        ids: the prompt, (B, T), T >= 1.
        max_new_tokens: number of tokens.
        temperature: divides the logits; above 0.
        seed: seed of the samples.
    """
    generator = torch.Generator().manual_seed(seed)
    prompt_length = ids.shape[1]
    for _ in range(max_new_tokens):
        logits: Tensor = model(ids[:, -model.params.block_size :])[:, -1].float().cpu()
        next_ids = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator)
        ids = torch.cat((ids, next_ids.to(ids.device)), dim=1)
    return ids[:, prompt_length:]
