"""The experts of `gpt` along a known text, whose tokens are counted after they have been predicted.

A model folder holds counts of the training text only. Here the text is known, so all of its n-grams and contexts are
numbered once. Which of them have occurred, and how often, is counted only as far as the text has been read.
"""

import numpy as np
import torch
from torch import Tensor

from stages.models.ngram.backoff_table import BackoffTable, BackoffTableBuilder, token_dtype
from stages.models.ngram.context_index import MAX_OCCURRENCES, back_off, keys_of_text
from stages.models.ngram.counts import IntArray, concatenate_ranges, count_ngrams, run_starts
from stages.models.ngram.ngram_experts import expert_probs
from stages.models.ngram.smoothing import level_discounts
from stages.models.params import ModelParams


class AdaptiveCounts:
    """N-gram counts of the part of a text that has been read; they equal those of `count_ngrams`.

    Args:
        text: token ids, (N,).
        vocab_size: V.
        order: length of the longest n-grams.
    """

    def __init__(self, text: Tensor, vocab_size: int, order: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        self.levels = count_ngrams(text.cpu().numpy(), vocab_size, order)
        self.occurrences = [np.zeros(len(level.keys), np.int32) for level in self.levels]
        self.counts = [np.zeros(len(level.keys), np.int32) for level in self.levels]
        self.counts_of_counts = [np.zeros(6, np.int64) for _ in self.levels]  # 0 … 4, 5 or more
        self.end = 0

    def read(self, end: int) -> None:
        """Count the n-grams up to the position `end`, without it."""
        for index in reversed(range(self.order)):
            starts = slice(max(0, self.end - index), max(0, end - index))
            ids, added = np.unique(self.levels[index].ids[starts], return_counts=True)
            is_new = self.occurrences[index][ids] == 0
            self.occurrences[index][ids] += added
            if index == self.order - 1:
                self._add(index, ids, added)
            if index:  # a new n-gram is a new token before its suffix
                self._add(index - 1, *np.unique(self.levels[index].suffix[ids[is_new]], return_counts=True))
        self.end = end

    def table_at(self, positions: IntArray) -> tuple[BackoffTable, Tensor]:
        """Return a table of the contexts that end at positions, (T,), and their rows in it, (T, order)."""
        builder = BackoffTableBuilder(self.vocab_size, max_dense_entries=0)
        rows = np.zeros((len(positions), self.order), np.int64)  # 0 where a context would begin before the text
        for length, level in enumerate(self.levels):
            begins = positions - length + 1
            inside = begins >= 0
            at_positions = self.levels[length - 1].ids[begins[inside]] if length else np.zeros_like(positions)
            contexts, row = np.unique(at_positions, return_inverse=True)
            rows[inside, length] = builder.row_count + row
            starts = level.children[contexts]
            entry_rows, ngrams = concatenate_ranges(starts, level.children[contexts + 1] - starts)
            tokens, counts = level.keys[ngrams] % self.vocab_size, self.counts[length][ngrams]
            discounts = level_discounts(length, self.counts_of_counts[length][1:5])[np.minimum(counts, 3)]
            builder.add_level(len(contexts), entry_rows, tokens, counts, discounts)
        return builder.build(persistent=False), torch.from_numpy(rows)

    def _add(self, index: int, ids: IntArray, added: IntArray) -> None:
        """Add to the counts of n-grams, which are distinct."""
        before = self.counts[index][ids]
        self.counts[index][ids] = after = before + added
        for counts, sign in ((before, -1), (after, 1)):
            self.counts_of_counts[index] += sign * np.bincount(np.minimum(counts, 5), minlength=6)


class WholeTextContexts:
    """The tokens that followed the latest occurrences of each word and line context in the whole text before it.

    Args:
        text: token ids, (N,).
        start: the first position of interest.
        token_classes: what each token is, (3, V); see `word_line_contexts.py`.
    """

    def __init__(self, text: Tensor, start: int, token_classes: Tensor) -> None:
        ids, self.start, self.device = text.cpu().long(), start, text.device
        all_keys = keys_of_text(ids, token_classes.cpu())
        tokens = ids.numpy().astype(token_dtype(token_classes.shape[1]))
        shape = (len(all_keys), len(ids) - start)
        followers, counts = np.empty((*shape, MAX_OCCURRENCES), tokens.dtype), np.empty(shape, np.uint8)
        for index, keys in enumerate(all_keys):
            order = np.argsort(keys, kind="stable")
            starts = np.where(run_starts(keys[order]), np.arange(len(ids)), 0)
            first = np.maximum.accumulate(starts)  # rank of the first position with the same key
            ranks = np.flatnonzero(order >= start)
            ranks = ranks[np.argsort(order[ranks])]  # of the positions from `start` on
            for back in range(MAX_OCCURRENCES):
                earlier = order[np.maximum(ranks - 1 - back, 0)]
                followers[index, :, back] = tokens[np.minimum(earlier + 1, len(ids) - 1)]
            counts[index] = np.minimum(ranks - first[ranks], MAX_OCCURRENCES)
        self.followers, self.counts = torch.from_numpy(followers), torch.from_numpy(counts)

    def probs(self, begin: int, end: int, below: Tensor) -> Tensor:
        """Return the distributions after the tokens from `begin` up to, not including, `end`, (T, kinds, V).

        Args:
            begin: the first position.
            end: the position after the last one.
            below: distributions to back off to, (T, V).
        """
        part = slice(begin - self.start, end - self.start)
        followers, counts = (tensor[:, part].to(self.device).long() for tensor in (self.followers, self.counts))
        return back_off(followers, counts, below)


class AdaptiveExperts:
    """The log-probabilities of each expert along a text.

    Args:
        params: parameters of the model.
        vocab_size: V.
        text: token ids, (N,).
        start: the first token to predict, at least 1.
        token_classes: what each token is, (3, V); see `word_line_contexts.py`. None: no context experts.
    """

    def __init__(
        self, params: ModelParams, vocab_size: int, text: Tensor, start: int, token_classes: Tensor | None
    ) -> None:
        self.params, self.text, self.start = params, text, start
        self.counts = AdaptiveCounts(text, vocab_size, params.ngram_order)
        self.counts.read(start)
        self.contexts = WholeTextContexts(text, start - 1, token_classes) if token_classes is not None else None

    def predict_and_read(self, begin: int, end: int) -> Tensor:
        """Return the predictions of the tokens from `begin` up to, not including, `end`, and then count these tokens.

        The n-gram counts are of the text before `begin`. The cache language model sees the last block of the text from
        `start - 1` on, and the word and line contexts see the whole text before each token.

        Returns:
            log-probabilities, (1, T, experts, V).
        """
        device = self.text.device
        table, rows = self.counts.table_at(np.arange(begin - 1, end - 1))
        table, rows = table.to(device), rows.to(device)[None]
        window_size = max(self.params.block_size, end - begin)
        window = self.text[None, max(self.start - 1, end - 1 - window_size) : end - 1]
        experts = expert_probs(table, rows, window, self.params.cache_lm)
        if self.contexts:
            experts = torch.cat((experts, self.contexts.probs(begin - 1, end - 1, experts[0, :, -1])[None]), dim=2)
        self.counts.read(end)
        return experts.log()
