"""What the window itself teaches: counts of what followed the same characters earlier in the same window.

A play repeats its names and a manual its terms, which counts of another text cannot know. For contexts of k = 2, 3, …
characters, p_k = (n_k(c) + s_k p_{k-1}) / (n_k + s_k), where n_k(c) says how often, earlier in this window, the same
last k characters were followed by c, and p_1 is a distribution that is given. This is the cache of Kuhn & De Mori
(1990), with contexts. A large strength s_k trusts what is given, a small one the window.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

SHORTEST = 2
STRENGTHS = (30.0, 10.0, 5.0, 2.0, 1.0, 0.5)  # for contexts of 2 … 7 characters; set by hand, docs/experiments.md


@dataclass(frozen=True)
class Agreements:
    """The pairs of positions of the flattened windows, N = B · T of them, that end in the same characters.

    `now`, `then`: the later and the earlier position of each pair, both in one window. `length`: how many characters
    agree, as an index: 0 for SHORTEST. `count`: pairs of each position that agree so far or further, (lengths, N).
    `size`: positions a window. `flat`: the characters, (N,).
    """

    now: Tensor
    then: Tensor
    length: Tensor
    count: Tensor
    flat: Tensor

    @classmethod
    def of(cls, ids: Tensor, lengths: int) -> "Agreements":
        """Find them in windows, (B, T), for contexts of SHORTEST … SHORTEST + lengths - 1 characters."""
        now, then = _pairs(ids)
        flat, size = ids.flatten(), ids.shape[1]
        count = torch.zeros(lengths, len(flat), device=ids.device)
        length = torch.zeros_like(now)
        alive, later, earlier = torch.arange(len(now), device=ids.device), now, then
        for index in range(lengths):
            if index:
                back = SHORTEST + index - 1
                same = (earlier % size >= back) & (flat[later - back] == flat[earlier - back])
                alive, later, earlier = alive[same], later[same], earlier[same]
                length[alive] = index
            count[index] = torch.bincount(later, minlength=len(flat))
        return cls(now, then, length, count, flat)


def with_recent(seen: Agreements, p: Tensor, strengths: tuple[float, ...]) -> Tensor:
    """Mix the window's own counts into the next character's distributions.

    Args:
        seen: in the windows, (B, T), for at least as many lengths as there are strengths.
        p: distributions, (B, T, V).
        strengths: of contexts of SHORTEST characters and more.

    Returns:
        (B, T, V); a position sees its window up to itself.
    """
    count, size = seen.count[: len(strengths)], p.shape[-1]
    strength = torch.tensor(strengths, dtype=p.dtype, device=p.device)[:, None]
    weights = torch.empty_like(count)  # of one pair, for each length
    above = torch.ones_like(count[0])  # weight of what lies below each length, in the end that of p
    for index in reversed(range(len(strengths))):
        weights[index] = above / (count[index] + strength[index])
        above = above * strength[index] / (count[index] + strength[index])
    for index in range(1, len(strengths)):  # a pair that agrees in k characters counts for every length up to k
        weights[index] += weights[index - 1]
    out = p.reshape(-1, size) * above[:, None]
    length = seen.length.clamp(max=len(strengths) - 1)
    out.view(-1).scatter_add_(0, seen.now * size + seen.flat[seen.then + 1], weights[length, seen.now])
    return out.view_as(p)


def _pairs(ids: Tensor) -> tuple[Tensor, Tensor]:
    """List the pairs of positions that lie in one window and end in the same SHORTEST characters: later, earlier."""
    batch, length = ids.shape
    flat = ids.flatten()
    at = torch.arange(batch * length, device=ids.device)
    key = torch.div(at, length, rounding_mode="floor")
    for back in range(SHORTEST):
        key = key * (int(flat.max()) + 1) + flat.roll(back)
    key = torch.where(at % length >= SHORTEST - 1, key, -1 - at)  # a window's start has no context: alone
    key, order = key.sort(stable=True)
    new = torch.cat((key.new_ones(1, dtype=torch.bool), key[1:] != key[:-1]))
    begin = torch.where(new, at, 0).cummax(0).values
    earlier = at - begin
    which = torch.repeat_interleave(earlier)
    before = earlier.cumsum(0) - earlier
    return order[which], order[(begin - before)[which] + torch.arange(len(which), device=ids.device)]
