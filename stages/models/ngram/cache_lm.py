"""Cache language model: n-gram counts of the window itself (Kuhn & De Mori 1990), with contexts of several lengths.

It adapts to tokens that recur in the window but are rare in the training text. For contexts of k = 2, 3, … tokens,

    p_k(c) = (n_k(c) + s_k * p_{k-1}(c)) / (n_k + s_k)

where n_k(c) is how often, earlier in the window, the same last k tokens were followed by c, and p_1 is given. A large
strength s_k favours the shorter context, a small one the window.

When p_1 is an n-gram model of the training text, s_k grows with its count of the context: the two are then almost one
model of counts of both texts. Kneser–Ney counts differ from occurrences: those of all but the longest context are of
distinct tokens before and after it, which are fewer, so that the window weighs more than its length.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

MIN_CONTEXT = 2
BIGRAM_STRENGTHS = (30.0, 10.0, 5.0, 2.0, 1.0, 0.5)  # for contexts of 2 … 7 tokens, over bigrams; set by hand
STRENGTH_PER_COUNT, MIN_STRENGTH = 3.0, 3.0  # over n-grams; fitted to twelve texts


@dataclass(frozen=True)
class ContextMatches:
    """The pairs of positions in a batch of windows that end with the same tokens.

    Positions index the flattened windows, N = B * T.

    Attributes:
        later: the later position of each pair.
        earlier: the earlier position, in the same window.
        length_index: number of tokens that match, less MIN_CONTEXT.
        counts: number of earlier positions that match each position in at least so many tokens, (num_lengths, N).
        ids: the flattened windows, (N,).
    """

    later: Tensor
    earlier: Tensor
    length_index: Tensor
    counts: Tensor
    ids: Tensor


def find_context_matches(ids: Tensor, num_lengths: int) -> ContextMatches:
    """Return the matches in windows, (B, T), for contexts of MIN_CONTEXT … MIN_CONTEXT + num_lengths - 1 tokens."""
    later, earlier = _matching_pairs(ids)
    flat_ids, window_size = ids.flatten(), ids.shape[1]
    counts = torch.zeros(num_lengths, len(flat_ids), device=ids.device)
    length_index = torch.zeros_like(later)
    # The pairs that still match, and their positions.
    pairs, pair_later, pair_earlier = torch.arange(len(later), device=ids.device), later, earlier
    for index in range(num_lengths):
        if index:
            back = MIN_CONTEXT + index - 1
            inside = pair_earlier % window_size >= back
            matches = inside & (flat_ids[pair_later - back] == flat_ids[pair_earlier - back])
            pairs, pair_later, pair_earlier = pairs[matches], pair_later[matches], pair_earlier[matches]
            length_index[pairs] = index
        counts[index] = torch.bincount(pair_later, minlength=len(flat_ids))
    return ContextMatches(later, earlier, length_index, counts, flat_ids)


def ngram_strengths(totals: Tensor, num_lengths: int) -> Tensor:
    """Return the strengths over an n-gram model: (…, order) -> (…, num_lengths).

    Args:
        totals: of the n-gram model, after the context of each length from 0 tokens on.
        num_lengths: of contexts, from MIN_CONTEXT tokens on; the n-gram model only knows those below its order.
    """
    known = totals[..., MIN_CONTEXT : MIN_CONTEXT + num_lengths]
    return F.pad(STRENGTH_PER_COUNT * known, (0, num_lengths - known.shape[-1])) + MIN_STRENGTH


def apply_cache_lm(matches: ContextMatches, probs: Tensor, strengths: Tensor) -> Tensor:
    """Return the distributions of the cache language model, (B, T, V); a position uses its window up to itself.

    Args:
        matches: in the windows, for at least as many context lengths as there are strengths.
        probs: distributions to back off to, p_1, (B, T, V).
        strengths: for contexts of MIN_CONTEXT tokens and more, (lengths,) or (B, T, lengths).
    """
    strength = strengths.reshape(-1, strengths.shape[-1]).T  # lengths, N or 1
    counts, vocab_size = matches.counts[: len(strength)], probs.shape[-1]
    pair_weights = torch.empty_like(counts)  # of one match, for each context length
    backoff_weight = torch.ones_like(counts[0])  # of everything below a context length; at the end, of `probs`
    for index in reversed(range(len(strength))):
        pair_weights[index] = backoff_weight / (counts[index] + strength[index])
        backoff_weight = backoff_weight * strength[index] / (counts[index] + strength[index])
    for index in range(1, len(strength)):  # a match of k tokens counts for every length up to k
        pair_weights[index] += pair_weights[index - 1]
    out = probs.reshape(-1, vocab_size) * backoff_weight[:, None]
    length_index = matches.length_index.clamp(max=len(strength) - 1)
    cells = matches.later * vocab_size + matches.ids[matches.earlier + 1]
    out.view(-1).scatter_add_(0, cells, pair_weights[length_index, matches.later])
    return out.view_as(probs)


def _matching_pairs(ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pairs of positions of one window that end with the same MIN_CONTEXT tokens: later and earlier."""
    batch, length = ids.shape
    flat_ids = ids.flatten()
    position = torch.arange(batch * length, device=ids.device)
    key = torch.div(position, length, rounding_mode="floor")
    id_range = int(flat_ids.max()) + 1
    for back in range(MIN_CONTEXT):
        key = key * id_range + flat_ids.roll(back)
    has_context = position % length >= MIN_CONTEXT - 1
    key = torch.where(has_context, key, -1 - position)  # without context: a unique key
    key, order = key.sort(stable=True)
    is_new = torch.cat((key.new_ones(1, dtype=torch.bool), key[1:] != key[:-1]))
    group_start = torch.where(is_new, position, 0).cummax(0).values
    earlier_count = position - group_start
    index = torch.repeat_interleave(earlier_count)
    before = earlier_count.cumsum(0) - earlier_count
    earlier = (group_start - before)[index] + torch.arange(len(index), device=ids.device)
    return order[index], order[earlier]
