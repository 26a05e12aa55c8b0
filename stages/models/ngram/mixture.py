"""The two ways of counting that a network on a prior weighs against each other, position by position.

One distribution cannot be right everywhere: a rare word is best known from the whole training text, a name that this
scene repeats from the window itself.
"""

import torch
from torch import Tensor

from stages.models.ngram.backoff_table import Rows
from stages.models.ngram.cache_lm import STRENGTHS, Agreements, with_recent


def count_experts(recent: bool) -> int:
    """Count the experts."""
    return 2 if recent else 1


def opinions(counts: Rows, rows: Tensor, ids: Tensor, recent: bool) -> Tensor:
    """Give each expert's log-probabilities of the next character.

    Args:
        counts: of the training text.
        rows: which belong to each position, (B, T, order).
        ids: windows, (B, T).
        recent: whether the windows' own counts have a say.

    Returns:
        (B, T, experts, V): first what the training text says; then, with `recent`, what the window says, on top of
        what the training text says after one character.
    """
    p: Tensor = counts(rows.flatten(0, 1)).view(*ids.shape, -1)
    if not recent:
        return p[:, :, None].log()
    pairs: Tensor = counts(rows[:, :, :2].flatten(0, 1)).view_as(p)
    window = with_recent(Agreements.of(ids, len(STRENGTHS)), pairs, STRENGTHS)
    return torch.stack((p, window), dim=2).log()
