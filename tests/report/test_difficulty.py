import numpy as np
import pandas as pd

from stages.report.difficulty import bits_by_context, bits_by_token, hardest_and_easiest
from stages.tokenizers.char import CharTokenizer

TOKENIZER = CharTokenizer("\n ab")


def test_the_hardest_tokens_come_first_and_rare_ones_are_left_out():
    ids = np.array([2, 3, 2, 3, 0])
    table = bits_by_token(ids, np.array([1.0, 5.0, 2.0, 7.0, 9.0]), TOKENIZER)
    assert table.to_numpy().tolist() == [["b", 2, 6.0], ["a", 2, 1.5]]


def test_contexts_are_the_three_tokens_before():
    ids = TOKENIZER.encode("ab ab a").astype(np.int64)
    table = bits_by_context(np.concatenate((ids, ids)), np.arange(14.0), TOKENIZER)
    assert set(table["context"]) == {"ab␣", "b␣a", "␣ab"}
    assert dict(zip(table["context"], table["bits"], strict=True))["ab␣"] == np.mean([3, 6, 10, 13])
    assert len(bits_by_context(ids[:2], np.zeros(2), TOKENIZER)) == 0


def test_no_row_is_both_among_the_hardest_and_the_easiest():
    hardest, easiest = hardest_and_easiest(pd.DataFrame({"bits": [5, 4, 3, 2, 1]}))
    assert (hardest["bits"].tolist(), easiest["bits"].tolist()) == ([5, 4], [1, 2])
