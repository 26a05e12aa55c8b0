"""Cache language model: n-gram counts of the window itself (Kuhn & De Mori 1990), with contexts of several lengths.

It adapts to tokens that recur in the window but are rare in the training text. For contexts of k = 2, 3, … tokens,

    p_k(c) = (n_k(c) + s_k * p_{k-1}(c)) / (n_k + s_k)

where n_k(c) is how often, earlier in the window, the same last k tokens were followed by c, and p_1 is given. A large
strength s_k favours the shorter context, a small one the window.

When p_1 is an n-gram model of the training text, s_k grows with its count of the context: the two are then almost one
model of counts of both texts. Below the longest context, a Kneser–Ney count is a number of distinct tokens, not of
occurrences. It is therefore smaller, and the window weighs more than its length suggests.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.models.ngram.window_matches import MIN_CONTEXT, ContextMatches

BIGRAM_STRENGTHS = (30.0, 10.0, 5.0, 2.0, 1.0, 0.5)  # for contexts of 2 … 7 tokens, over bigrams; set by hand
STRENGTH_PER_COUNT, MIN_STRENGTH = 3.0, 3.0  # over n-grams; fitted to twelve texts


def ngram_strengths(totals: Tensor, num_lengths: int) -> Tensor:
    """Return the strengths over an n-gram model: (…, order) -> (…, num_lengths).

    Args:
        totals: counts of the n-gram model after the context of each length, from 0 tokens on.
        num_lengths: number of context lengths, from MIN_CONTEXT tokens on; the n-gram model only knows those below its
            order.
    """
    known = totals[..., MIN_CONTEXT : MIN_CONTEXT + num_lengths]
    return F.pad(STRENGTH_PER_COUNT * known, (0, num_lengths - known.shape[-1])) + MIN_STRENGTH


def apply_cache_lm(matches: ContextMatches, probs: Tensor, strengths: Tensor) -> Tensor:
    """Return the distributions of the cache language model, (B, T, V); a position uses its window up to itself.

    Args:
        matches: matches in the windows, for at least as many context lengths as there are strengths.
        probs: distributions to back off to, p_1, (B, T, V).
        strengths: strengths of contexts of MIN_CONTEXT tokens and more, (lengths,) or (B, T, lengths).
    """
    strength = strengths.reshape(-1, strengths.shape[-1]).T  # lengths, N or 1
    counts = matches.counts[: len(strength)]
    match_weights = torch.empty_like(counts)  # of one match, for each context length
    backoff_weight = torch.ones_like(counts[0])  # of everything below a context length; at the end, of `probs`
    for index in reversed(range(len(strength))):
        match_weights[index] = backoff_weight / (counts[index] + strength[index])
        backoff_weight = backoff_weight * strength[index] / (counts[index] + strength[index])
    for index in range(1, len(strength)):  # a match of k tokens counts for every length up to k
        match_weights[index] += match_weights[index - 1]
    out = probs.reshape(-1, probs.shape[-1]) * backoff_weight[:, None]
    return matches.add_followers(out, match_weights).view_as(probs)
