"""The counting prior for training text: every character is predicted by counts that never saw it.

Counts of a text are overconfident on that text: a model trained on them learns to trust them too much. So the text is
cut into contiguous folds, and each position gets its prior from the counts of all other folds. Nothing is counted
again: what lies in a fold is subtracted from the whole text's counts, and a fold has rows for its own contexts alone.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.models.kneser_ney import level_discounts
from stages.models.ngram.backoff_table import Rows, RowsBuilder
from stages.models.ngram.counts import Floats, Ints, Level, concatenate_ranges, ranks
from stages.models.ngram.mixture import opinions

DENSE_ENTRIES = 1 << 21


class CrossFitted:
    """Distributions at any position of the training text, from the counts of the other folds.

    `rows` are those of all (fold, context) pairs; `table`, (N, order) int32, says which belong to each position: 28
    bytes a character at order 7, beside some 30 MB of rows for a million characters.
    """

    def __init__(self, levels: list[Level], vocabulary_size: int, folds: int, recent: bool) -> None:
        self.rows, self.table = cross_fit(levels, vocabulary_size, folds)
        self.recent = recent

    def to(self, device: torch.device) -> "CrossFitted":
        """Move everything to `device`."""
        self.rows, self.table = self.rows.to(device), self.table.to(device)
        return self

    def opinions(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Give the prior of windows, as a model would see it that knows nothing before the window.

        Args:
            ids: (B, T).
            positions: where in the training text they stand, (B, T).

        Returns:
            each expert's log-probabilities of the next character, (B, T, experts, V).
        """
        length, order = ids.shape[1], self.table.shape[1]
        seen = torch.arange(1, length + 1, device=ids.device)
        visible = torch.arange(order, device=ids.device) <= seen[:, None]
        rows = self.table[positions] * visible
        return opinions(self.rows, rows, ids, self.recent)


@dataclass(frozen=True)
class Part:
    """The rows of one context length, for all folds: one for each (fold, context) pair.

    `owner`, `characters`, `counts`, `discount` describe the entries, as `RowsBuilder.add` takes them; `sample` is an
    occurrence of each pair (where its context starts); `row` gives, for each position, the pair of the n-gram there.
    """

    owner: Ints
    characters: Ints
    counts: Ints
    discount: Floats
    sample: Ints
    row: Ints


def cross_fit(levels: list[Level], vocabulary_size: int, folds: int) -> tuple[Rows, Tensor]:
    """Make the rows of every fold, and the table of which belong to each position.

    An n-gram belongs to the fold of its last character: the one that is predicted.
    """
    length, order = len(levels[0].ids), len(levels)
    fold = np.minimum(np.arange(length) * folds // length, folds - 1)
    parts: list[Part] = []
    above: Inside | None = None
    for index in reversed(range(order)):
        inside = Inside.of(levels, index, fold, above)
        parts.insert(0, _part(levels, index, inside, folds, vocabulary_size))
        above = inside
    builder = RowsBuilder(vocabulary_size, DENSE_ENTRIES)
    table = np.zeros((length, order), np.int32)
    for index, part in enumerate(parts):
        shorter = (
            builder.base[-1] + parts[index - 1].row[part.sample + 1] if index else np.zeros(len(part.sample), np.int64)
        )
        builder.add(len(part.sample), part.owner, part.characters, part.counts, part.discount, shorter)
        first = max(0, index - 1)  # the first position that has read so many characters
        table[first : length - 1, index] = builder.base[index] + (part.row if index else part.row[1:])
    return builder.build(), torch.from_numpy(table)


@dataclass(frozen=True)
class Inside:
    """The distinct (fold, n-gram) pairs of one length, in order.

    `fold`, `gram`: the pair. `count`: occurrences in the fold. `sample`: where one starts. `taken`: what leaving the
    fold out takes from the n-gram's count. `pair`: for each position, the pair of the n-gram that starts there.
    """

    fold: Ints
    gram: Ints
    count: Ints
    sample: Ints
    taken: Ints
    pair: Ints

    @classmethod
    def of(cls, levels: list[Level], index: int, fold: Ints, above: "Inside | None") -> "Inside":
        """Find the pairs of n-grams of `index + 1` characters; `above` holds those one character longer."""
        level = levels[index]
        size = len(level.keys)
        key = fold[index:] * np.int64(size) + level.ids[: len(fold) - index]
        pair, sample, count = ranks(key)
        taken = count
        if above is not None:  # a longer n-gram that occurs in this fold alone: one left extension less
            alone = above.count == levels[index + 1].raw[above.gram]
            taken = np.bincount(pair[above.sample[alone] + 1], minlength=len(sample))
        folds, grams = np.divmod(key[sample], size)
        return cls(folds, grams, count, sample, taken, pair)


def _part(levels: list[Level], index: int, inside: Inside, folds: int, vocabulary_size: int) -> Part:
    level = levels[index]
    context = level.keys[inside.gram] // vocabulary_size
    new = np.concatenate(([True], (np.diff(inside.fold) != 0) | (np.diff(context) != 0)))
    row = np.cumsum(new) - 1  # of each (fold, n-gram) pair, its (fold, context) pair
    starts = level.children[context[new]]
    sizes = level.children[context[new] + 1] - starts
    owner, gram = concatenate_ranges(starts, sizes)
    counts = level.counts[gram]
    first_entry = np.cumsum(sizes) - sizes
    counts[first_entry[row] + inside.gram - level.children[context]] -= inside.taken
    discount = _fold_discounts(level, index, inside, folds)
    return Part(
        owner=owner,
        characters=level.keys[gram] % vocabulary_size,
        counts=counts,
        discount=discount[inside.fold[new][owner], np.minimum(counts, 3)],
        sample=inside.sample[new],
        row=row[inside.pair],
    )


def _fold_discounts(level: Level, index: int, inside: Inside, folds: int) -> Floats:
    """Give each fold's discounts, (folds, 4), from the counts that are left without it."""
    before = np.minimum(level.counts[inside.gram], 5)
    after = np.minimum(level.counts[inside.gram] - inside.taken, 5)
    spread = np.tile(np.bincount(np.minimum(level.counts, 5), minlength=6), (folds, 1))
    for change, sign in ((before, -1), (after, 1)):
        spread += sign * np.bincount(inside.fold * 6 + change, minlength=6 * folds).reshape(folds, 6)
    return np.broadcast_to(level_discounts(index, spread[:, 1:5]), (folds, 4))
