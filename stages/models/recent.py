"""What the window itself teaches: counts of what followed the same characters earlier in the same window.

A play repeats its names and a manual its terms, which counts of another text cannot know. So for contexts of
k = 2 … 6 characters, p_k = (n_k(c) + s_k p_{k-1}) / (n_k + s_k), where n_k(c) says how often, earlier in this window,
the same last k characters were followed by c; p_1 is the distribution that is given. This is the cache of Kuhn & De
Mori (1990), with contexts.
"""

import torch
from torch import Tensor

STRENGTHS = (100.0, 60.0, 30.0, 20.0, 10.0)  # s_2 … s_6, set by hand; docs/experiments.md
SHORTEST = 2


def opinions(ids: Tensor, p: Tensor, recent: bool) -> Tensor:
    """Stack log-probabilities, (B, T, experts, V): with `recent`, the window's counts on `p`; then `p` itself."""
    return (torch.stack((with_recent(ids, p), p), dim=2) if recent else p[:, :, None]).log()


def with_recent(ids: Tensor, p: Tensor) -> Tensor:
    """Mix the window's own counts into the next character's distributions.

    Args:
        ids: windows, (B, T).
        p: distributions, (B, T, V).

    Returns:
        (B, T, V); a position sees its window up to itself.
    """
    flat, size = ids.flatten(), p.shape[-1]
    now, then = _pairs(ids)
    count, agree = _counts(ids, now, then)
    strengths = torch.tensor(STRENGTHS, dtype=p.dtype, device=p.device)[:, None]
    keep = strengths / (count + strengths)  # of what lies below each length, (lengths, B * T)
    above = torch.ones_like(count[0])
    weights = torch.zeros_like(count)  # of one pair, for each length that it counts for
    for index in reversed(range(len(STRENGTHS))):
        weights[index] = above / (count[index] + strengths[index])
        above = above * keep[index]
    for index in range(1, len(STRENGTHS)):  # a pair that agrees in k characters counts for every length up to k
        weights[index] += weights[index - 1]
    out = p.reshape(-1, size) * above[:, None]
    out.view(-1).scatter_add_(0, now * size + flat[then + 1], weights[agree, now])
    return out.view_as(p)


def _pairs(ids: Tensor) -> tuple[Tensor, Tensor]:
    """List the pairs of positions, of the flattened windows, that lie in one window and end in the same characters.

    Returns:
        the later and the earlier position of each pair.
    """
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


def _counts(ids: Tensor, now: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
    """Count, for each length and position, the pairs that agree so far; and how far each pair agrees, as an index."""
    length, flat = ids.shape[1], ids.flatten()
    count = torch.zeros(len(STRENGTHS), len(flat), device=ids.device)
    agree = torch.zeros_like(now)
    alive = torch.arange(len(now), device=ids.device)
    for index in range(len(STRENGTHS)):
        if index:
            back = SHORTEST + index - 1
            same = (then % length >= back) & (flat[now - back] == flat[then - back])
            alive, now, then = alive[same], now[same], then[same]
            agree[alive] = index
        count[index] = torch.bincount(now, minlength=len(flat))
    return count, agree
