"""Generate tokens one at a time, with the decoder that suits the model."""

from collections.abc import Iterator

import torch
from torch import Tensor

from stages.generation.decoding import make_decoder
from stages.generation.params import SamplingParams
from stages.generation.sampling import sample_token
from stages.models.base import LanguageModel


@torch.inference_mode()
def stream_tokens(
    model: LanguageModel, prompt: Tensor, max_new_tokens: int, sampling: SamplingParams, seeds: list[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tokens that continue `prompt`, one of each row at a time.

    The block size bounds the cost of a token, however long the text is; `decoding.py` says which context is dropped.

    Args:
        model: the model, in evaluation mode, on the device of `prompt`.
        prompt: token ids, (B, T), T >= 1.
        max_new_tokens: number of tokens to generate.
        sampling: how tokens are sampled.
        seeds: one per row, so that a sample does not depend on the other rows.

    Yields:
        the new ids, (B, 1), and their log-probabilities under the model, before temperature and filters, (B, 1), both
        on the CPU.
    """
    uniforms = draw_uniforms(seeds, max_new_tokens)
    decoder, ids = make_decoder(model, len(prompt)), prompt
    for index in range(max_new_tokens):
        # Sampled on the CPU: it is faster for so little work, the device is waited for only once a token, and CUDA's
        # cumulative sums are not deterministic.
        logits = decoder.step(ids).float().cpu()
        sampled = sample_token(logits, uniforms[:, index], sampling)
        yield sampled, logits.log_softmax(-1).gather(-1, sampled)
        ids = sampled.to(prompt.device, non_blocking=True)


def generate_tokens(
    model: LanguageModel, prompt: Tensor, max_new_tokens: int, sampling: SamplingParams, seeds: list[int]
) -> Tensor:
    """Return all ids that `stream_tokens` yields, (B, max_new_tokens), on the CPU."""
    return torch.cat([ids for ids, _ in stream_tokens(model, prompt, max_new_tokens, sampling, seeds)], dim=1)


def draw_uniforms(seeds: list[int], count: int) -> Tensor:
    """Return `count` numbers between 0 and 1 for each seed, (B, count); the same on every device."""
    return torch.stack([torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
