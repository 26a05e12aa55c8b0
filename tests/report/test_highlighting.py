import json

import numpy as np
import pytest

from stages.metrics.prediction_file import Predictions
from stages.report.highlighting import Piece, find_pieces, highlighted_pieces, piece_details
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.byte import ByteTokenizer
from stages.tokenizers.char import CharTokenizer

TOKENIZER = CharTokenizer("\n ab")


def predictions_of(ids: list[int], probabilities: list[float]) -> Predictions:
    return Predictions(
        token_ids=np.array(ids),
        log_probs=np.log(probabilities),
        top_ids=np.array([[2, 3]] * len(ids)),
        top_probs=np.array([[0.75, 0.25]] * len(ids)),
        attention=np.empty((0, 0, 0, 0)),
        attention_ids=np.empty(0, np.int32),
        block_size=4,
        short_block_size=2,
        stride=2,
    )


def pieces_of(predictions: Predictions, tokenizer: Tokenizer, count: int) -> list[Piece]:
    first_text, pieces = find_pieces(predictions, tokenizer, count, 0)
    assert first_text == tokenizer.display(0)
    return pieces


PREDICTIONS = predictions_of([2, 3, 0, 2, 3, 1], [1.0, 0.6, 0.5, 0.25, 2**-4.0, 2**-9.0])


def test_levels_follow_the_bits_of_each_token():
    shown = highlighted_pieces(pieces_of(PREDICTIONS, TOKENIZER, 6), PREDICTIONS)
    assert shown == [("a", 0), ("b", 1), ("↵\n", 2), ("a", 3), ("b", 5), (" ", 7)]


def test_details_have_the_probability_and_the_most_likely_tokens():
    details = json.loads(piece_details(pieces_of(PREDICTIONS, TOKENIZER, 2), PREDICTIONS, TOKENIZER))
    assert details == [["a", 1.0, ["a", "b"], [0.75, 0.25]], ["b", 0.6, ["a", "b"], [0.75, 0.25]]]


def test_the_bytes_of_a_character_are_shown_as_the_character_with_the_sum_of_their_bits():
    text = list("éa水bé".encode()[:-1])  # the last character is incomplete
    predictions = predictions_of(text[1:], [0.5, 0.5, 0.5, 0.25, 1.0, 0.9, 0.5])
    first_text, pieces = find_pieces(predictions, ByteTokenizer(), 7, text[0])
    assert first_text == ""
    assert highlighted_pieces(pieces, predictions) == [("é", 2), ("a", 2), ("水", 4), ("b", 0)]
    details = json.loads(piece_details(pieces, predictions, ByteTokenizer()))
    assert [row[:2] for row in details] == [["é", 0.5], ["a", 0.5], ["水", 0.125], ["b", 0.9]]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\r\n", ["←", "↵\n"]),
        ("\ra", ["←\n", "a"]),
        ("\r", ["←\n"]),
        ("\t", ["\t"]),
        ("␣↵", ["␣", "↵"]),
        ("\x0c\x1b", ["\\x0c", "\\x1b"]),
        ("\uffff", ["\\uffff"]),
    ],
)
def test_line_breaks_are_visible_and_break_once_and_control_characters_are_escaped(text, shown):
    tokenizer = CharTokenizer(sorted(set(text)))
    predictions = predictions_of(tokenizer.encode(text).tolist(), [0.5] * len(text))
    pieces = pieces_of(predictions, tokenizer, 9)
    assert [piece for piece, _ in highlighted_pieces(pieces, predictions)] == shown
