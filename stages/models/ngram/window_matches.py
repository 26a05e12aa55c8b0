"""Find the earlier positions of a window that end with the same tokens as each position.

There are two representations. A list of pairs takes the least work, but its length depends on the text, so that a GPU
would have to wait for it. A matrix of all pairs has a fixed size; a GPU fills it as it does a matrix of attention.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

MIN_CONTEXT = 2
MAX_MATRIX_ENTRIES = 1 << 23  # of weights at once


class ContextMatches(Protocol):
    """The matches of positions in a batch of windows, numbered together from 0 to N - 1."""

    @property
    def counts(self) -> Tensor:
        """Return how many earlier positions match each position, for every context length, (lengths, N).

        The context lengths are MIN_CONTEXT, MIN_CONTEXT + 1, …; a match of more tokens counts for each shorter length.
        """

    def add_followers(self, out: Tensor, weights: Tensor) -> Tensor:
        """Add to each row of `out` the weights of the tokens that followed its matches.

        Args:
            out: (N, V); may be changed.
            weights: weight of a match of each length, by position, (lengths, N). A longer match has the weight of the
                last length.
        """


def find_context_matches(ids: Tensor, num_lengths: int, num_positions: int) -> ContextMatches:
    """Return the matches of the last positions of each window.

    Args:
        ids: windows, (B, S).
        num_lengths: context lengths to use: MIN_CONTEXT … MIN_CONTEXT + num_lengths - 1 tokens.
        num_positions: positions at the end of each window whose matches are found. They are numbered over the batch:
            N = B * num_positions.
    """
    find = MatchingPairs.find if ids.device.type == "cpu" else MatchMatrix.find
    return find(ids, num_lengths, num_positions)


@dataclass(frozen=True)
class MatchingPairs:
    """A list of the pairs of positions that end with the same tokens.

    Attributes:
        later: index of the later position of each pair, 0 … N - 1.
        earlier: index of the earlier position in `ids`, in the same window.
        length_index: number of tokens that match, less MIN_CONTEXT.
        counts: earlier positions that match each position, (lengths, N), as in `ContextMatches`.
        ids: the flattened windows, (B * S,).
    """

    later: Tensor
    earlier: Tensor
    length_index: Tensor
    counts: Tensor
    ids: Tensor

    @classmethod
    def find(cls, ids: Tensor, num_lengths: int, num_positions: int) -> "MatchingPairs":
        """Return the matches that `find_context_matches` describes, as pairs."""
        later, earlier = _matching_pairs(ids)
        flat_ids, window_size = ids.flatten(), ids.shape[1]
        skipped = window_size - num_positions  # in each window
        number = later
        if skipped:
            is_last = later % window_size >= skipped
            later, earlier = later[is_last], earlier[is_last]
            number = later - (torch.div(later, window_size, rounding_mode="floor") + 1) * skipped
        counts = torch.zeros(num_lengths, len(ids) * num_positions, device=ids.device)
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
            counts[index] = torch.bincount(number[pairs], minlength=counts.shape[1])
        return cls(number, earlier, length_index, counts, flat_ids)

    def add_followers(self, out: Tensor, weights: Tensor) -> Tensor:
        """Return `out` plus the weights of the tokens that followed matches, as in `ContextMatches`."""
        length_index = self.length_index.clamp(max=len(weights) - 1)
        cells = self.later * out.shape[1] + self.ids[self.earlier + 1]
        out.view(-1).scatter_add_(0, cells, weights[length_index, self.later])
        return out


@dataclass(frozen=True)
class MatchMatrix:
    """How many tokens match, for each pair of positions of a window.

    Attributes:
        match_lengths: [b, i, j] is how many of the tokens that end at i equal those that end at j < i, at most the
            longest context; (B, T, S) uint8, for the last T positions i.
        counts: earlier positions that match each position, (lengths, N), as in `ContextMatches`.
        ids: the windows, (B, S).
    """

    match_lengths: Tensor
    counts: Tensor
    ids: Tensor

    @classmethod
    def find(cls, ids: Tensor, num_lengths: int, num_positions: int) -> "MatchMatrix":
        """Return the matches that `find_context_matches` describes, as a matrix."""
        equal = (ids[:, :, None] == ids[:, None, :]).tril(-1).to(torch.uint8)
        match_lengths = equal
        for _ in range(MIN_CONTEXT + num_lengths - 2):
            match_lengths = equal * (1 + F.pad(match_lengths[:, :-1, :-1], (1, 0, 1, 0)))
        match_lengths = match_lengths[:, ids.shape[1] - num_positions :]
        counts = [(match_lengths >= MIN_CONTEXT + index).sum(-1).flatten() for index in range(num_lengths)]
        return cls(match_lengths, torch.stack(counts).float(), ids)

    def add_followers(self, out: Tensor, weights: Tensor) -> Tensor:
        """Return `out` plus the weights of the tokens that followed matches, as in `ContextMatches`."""
        (batch, length, window_size), vocab_size = self.match_lengths.shape, out.shape[1]
        weights = F.pad(weights, (0, 0, MIN_CONTEXT, 0)).view(-1, batch, length).movedim(0, -1)  # by number of tokens
        out = out.view(batch, length, vocab_size)
        tokens = torch.arange(vocab_size, device=out.device)
        size = max(1, MAX_MATRIX_ENTRIES // (length * window_size))
        results = []
        for start in range(0, batch, size):
            part = slice(start, start + size)
            index = self.match_lengths[part].clamp(max=weights.shape[-1] - 1).long()
            followers = F.pad(self.ids[part, 1:], (0, 1))  # the last position is never an earlier one
            is_follower = (followers[:, :, None] == tokens).to(out.dtype)
            results.append(torch.baddbmm(out[part], weights[part].gather(-1, index), is_follower))
        return torch.cat(results).view(-1, vocab_size)


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
