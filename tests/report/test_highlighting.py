import json

import numpy as np

from stages.metrics.prediction_file import Predictions
from stages.report.highlighting import highlighted_tokens, token_details
from stages.tokenizers.char import CharTokenizer

TOKENIZER = CharTokenizer("\n ab")
PREDICTIONS = Predictions(
    token_ids=np.array([2, 3, 0, 2, 3, 1]),
    log_probs=np.log([1.0, 0.6, 0.5, 0.25, 2**-4.0, 2**-9.0]),
    top_ids=np.array([[2, 3]] * 6),
    top_probs=np.array([[0.75, 0.25]] * 6),
    attention=np.empty((0, 0, 0, 0)),
    attention_ids=np.empty(0, np.int32),
    block_size=4,
    short_block_size=2,
    stride=2,
)


def test_levels_follow_the_bits_of_each_token():
    tokens = highlighted_tokens(PREDICTIONS, TOKENIZER, 6)
    assert [token["level"] for token in tokens] == [0, 1, 2, 3, 5, 7]
    assert [token["text"] for token in tokens] == ["a", "b", "↵", "a", "b", " "]
    assert [token["ends_line"] for token in tokens] == [False, False, True, False, False, False]


def test_details_have_the_probability_and_the_most_likely_tokens():
    details = json.loads(token_details(PREDICTIONS, TOKENIZER, 2))
    assert details == [["a", 1.0, ["a", "b"], [0.75, 0.25]], ["b", 0.6, ["a", "b"], [0.75, 0.25]]]
