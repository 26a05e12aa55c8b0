import numpy as np

from stages.models.ngram.counts import count_ngrams, rank_keys


def test_continuation_counts_count_distinct_left_neighbours():
    text = np.array([0, 2, 1, 2, 1, 2, 0, 2])  # 2 follows 0 and 1: two left neighbours, four occurrences
    unigrams = count_ngrams(text, 3, 2)[0]
    assert unigrams.counts.tolist() == [1, 1, 2]
    assert unigrams.occurrences.tolist() == [2, 2, 4]


def test_ranks_name_an_occurrence_and_a_count():
    rank, first, count = rank_keys(np.array([30, 10, 30, 20]))
    assert rank.tolist() == [2, 0, 2, 1]
    assert np.array([30, 10, 30, 20])[first].tolist() == [10, 20, 30]
    assert count.tolist() == [1, 1, 2]
