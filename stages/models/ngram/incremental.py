"""The prior's opinions, as `models/experts.py` gives them, for the end of a text that grows by one character."""

import torch
from torch import Tensor

from stages.models import kneser_ney
from stages.models.ngram.cache_lm import SHORTEST, STRENGTHS

LONGEST = SHORTEST + len(STRENGTHS) - 1


class CountsReader:
    """What the training text says next, and, with `recent` above 0, what the last `recent` characters say."""

    def __init__(self, prior: kneser_ney.Model, ids: Tensor, recent: int) -> None:
        self.rows = prior.rows
        self.contexts = Contexts(prior, ids)
        self.recent = Recent(ids, recent) if recent else None

    def read(self, ids: Tensor) -> Tensor:
        """Read one character of each text, (B,), and give log-probabilities of the next, (B, experts, V)."""
        rows = self.contexts.read(ids)
        p: Tensor = self.rows(rows)
        if not self.recent:
            return p[:, None].log()
        return torch.stack((p, self.recent.read(ids, self.rows(rows[:, :2]))), dim=1).log()


class Contexts:
    """The contexts that end a text: each of n characters from the one of n - 1 that ended it a character before.

    So all lengths are looked up at once, in one list of keys, each length's above those of the length before.
    """

    def __init__(self, prior: kneser_ney.Model, ids: Tensor) -> None:
        order, size = prior.params.order, prior.vocabulary_size
        self.size, self.base = size, prior.rows.base
        keys, starts, offsets = [], [0], [size]
        for length in range(2, order):
            found = prior.get_buffer(f"keys_{length}") + offsets[-1]
            keys.append(found)
            starts.append(starts[-1] + len(found))
            # A gap of V before each length's keys: there, and so not found, falls what follows a missing context (-1).
            offsets.append((int(found[-1]) + 1 if len(found) else offsets[-1]) + size)
        self.keys = torch.cat(keys) if keys else ids.new_empty(0)
        self.starts, self.offsets = (ids.new_tensor(each[: order - 2]) for each in (starts, offsets))
        rows = prior.find(ids[:, 1 - order :])[:, -1, 1:]
        self.contexts = torch.where(rows > 0, rows - self.base[1:], -1)  # of 1 … order - 1 characters; -1: never seen

    def read(self, ids: Tensor) -> Tensor:
        """Read one character of each text, (B,), and give the rows of what ends it now, (B, order)."""
        last = ids[:, None]
        if len(self.keys):
            keys = self.contexts[:, :-1] * self.size + last + self.offsets
            at = torch.searchsorted(self.keys, keys).clamp_(max=len(self.keys) - 1)
            longer = torch.where(self.keys[at] == keys, at - self.starts, -1)
        else:
            longer = torch.full_like(self.contexts[:, :-1], -1)
        self.contexts = torch.cat((last, longer), dim=1)
        rows = torch.where(self.contexts < 0, 0, self.contexts + self.base[1:])
        return torch.cat((self.base[:1].expand(len(ids), 1), rows), dim=1)


class Recent:
    """What the last `size` characters themselves say, as `models/recent.py` counts it.

    `agree[j]` says how many characters that end in position j are those that end the text, at most LONGEST.
    """

    def __init__(self, ids: Tensor, size: int) -> None:
        self.size, length = size, ids.shape[1]
        self.text = ids
        self.agree = torch.zeros(len(ids), length - 1, dtype=torch.uint8, device=ids.device)
        alive = torch.ones_like(self.agree)
        for back in range(min(LONGEST, length)):
            alive[:, :back] = 0
            alive[:, back:] *= ids[:, : length - 1 - back] == ids[:, -1 - back, None]
            self.agree += alive
        self.caps = torch.arange(1, LONGEST + 1, dtype=torch.uint8, device=ids.device)
        self.strengths = torch.tensor(STRENGTHS, device=ids.device)

    def read(self, ids: Tensor, p: Tensor) -> Tensor:
        """Read one character of each text, (B,), and mix what followed the same characters into p, (B, V)."""
        agree = torch.cat((torch.ones_like(ids, dtype=torch.uint8)[:, None], self.agree + 1), dim=1)
        agree = agree.mul_(self.text == ids[:, None]).clamp_(max=LONGEST)
        self.text = torch.cat((self.text, ids[:, None]), dim=1)
        if self.text.shape[1] > self.size:  # the oldest is forgotten: no context may begin before the second oldest
            self.text, agree = self.text[:, 1:], agree[:, 1:]
            agree[:, :LONGEST] = torch.minimum(agree[:, :LONGEST], self.caps[: agree.shape[1]])
        self.agree = agree
        row, at = (agree >= SHORTEST).nonzero().unbind(1)
        if not len(row):
            return p
        length = agree[row, at].long() - SHORTEST
        count = torch.zeros(len(p), len(STRENGTHS), device=p.device)
        count.index_put_((row, length), torch.ones((), device=p.device), accumulate=True)
        count = count.flip(1).cumsum(1)  # that agree so far or further, longest first
        strength = self.strengths.flip(0)
        keep = strength / (count + strength)
        below = keep.cumprod(1)
        share = (below / strength).flip(1).cumsum(1)  # of one place that agrees so far: a share at every shorter length
        p = p * below[:, -1:]
        return p.index_put_((row, self.text[row, at + 1]), share[row, length], accumulate=True)
