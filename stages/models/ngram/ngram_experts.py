"""The n-gram experts of `gpt`, whose log-probabilities the network weights at each position.

No single distribution is best everywhere: a rare word is best predicted from the whole training text, a name that the
current scene repeats from the window itself, and the rows of a table from both.
"""

import torch
from torch import Tensor

from stages.core.device import cached_tensor
from stages.models.ngram.backoff_table import BackoffTable
from stages.models.ngram.cache_lm import BIGRAM_STRENGTHS, apply_cache_lm, ngram_strengths
from stages.models.ngram.window_matches import MIN_CONTEXT, find_context_matches


def count_ngram_experts(cache_lm: bool) -> int:
    """Return the number of n-gram experts, with or without the cache language model."""
    return 3 if cache_lm else 1


def count_cache_contexts(order: int) -> int:
    """Return how many context lengths the cache language model uses, with n-grams of up to `order` tokens."""
    return max(len(BIGRAM_STRENGTHS), order - MIN_CONTEXT + 1)


def expert_log_probs(table: BackoffTable, rows: Tensor, ids: Tensor, cache_lm: bool) -> Tensor:
    """Return the log-probabilities of the next token by each expert, (B, T, experts, V); see `expert_probs`."""
    return expert_probs(table, rows, ids, cache_lm).log()


def expert_probs(table: BackoffTable, rows: Tensor, ids: Tensor, cache_lm: bool) -> Tensor:
    """Return the distributions of the next token by each expert.

    Args:
        table: n-gram probabilities of the training text.
        rows: table rows at the last T positions of the windows, (B, T, order).
        ids: windows, (B, T or more).
        cache_lm: whether the cache language model of the window is one of the experts.

    Returns:
        (B, T, experts, V): first the n-gram model; with `cache_lm` also the cache language model twice. The first one
        backs off to the bigram distribution of the training text; the second one backs off to the n-gram model, with
        strengths that grow with its counts (`ngram_strengths`).
    """
    probs: Tensor = table(rows.flatten(0, 1)).view(*rows.shape[:2], -1)
    if not cache_lm:
        return probs[:, :, None]
    bigram_probs: Tensor = table(rows[:, :, :2].flatten(0, 1)).view_as(probs)
    num_lengths = count_cache_contexts(rows.shape[-1])
    matches = find_context_matches(ids, num_lengths, rows.shape[1])
    cache_probs = apply_cache_lm(matches, bigram_probs, cached_tensor(BIGRAM_STRENGTHS, probs.device))
    strengths = ngram_strengths(table.totals[rows], num_lengths)
    adapted_probs = apply_cache_lm(matches, probs, strengths)
    return torch.stack((probs, cache_probs, adapted_probs), dim=2)
