"""The validation text with each character highlighted by how unlikely the model found it.

A token that is a whole character or several is shown by itself. Tokens that are parts of one character, as bytes can
be, are shown together as that character.
"""

import json
import math
import re
from dataclasses import dataclass

import numpy as np

from stages.metrics.prediction_file import Predictions
from stages.report.difficulty import escape_invisible, visible
from stages.tokenizers.base import Tokenizer

LEVELS = (0.5, 1, 2, 3, 4, 6, 8)  # bits: level 0 is below the first, level 7 above the last


@dataclass(frozen=True)
class Piece:
    """Consecutive tokens that are shown together.

    Attributes:
        start, end: their positions.
        text: their text.
    """

    start: int
    end: int
    text: str


def find_pieces(
    predictions: Predictions, tokenizer: Tokenizer, count: int, first_token_id: int
) -> tuple[str, list[Piece]]:
    """Return the text of the token before the predicted ones, and the first `count` of these in pieces.

    A piece is whole characters; an incomplete last one is left out.
    """
    decoder = tokenizer.stream_decoder(1)
    (first_text,) = decoder.decode_next([first_token_id])
    pieces, start = [], 0
    for index, token_id in enumerate(predictions.token_ids[:count].tolist()):
        (text,) = decoder.decode_next([token_id])
        if text:
            pieces.append(Piece(start, index + 1, text))
            start = index + 1
    return first_text, pieces


def highlighted_pieces(pieces: list[Piece], predictions: Predictions) -> list[tuple[str, int]]:
    """Return, for each piece, the text to show, in which line breaks are visible, and the level of its bits."""
    bits = [-float(predictions.log_probs[piece.start : piece.end].sum()) / math.log(2) for piece in pieces]
    levels = np.searchsorted(LEVELS, bits, side="right").tolist()
    following = [piece.text[:1] for piece in pieces[1:]] + [""]
    return [
        (with_visible_breaks(piece.text, after), level)
        for piece, after, level in zip(pieces, following, levels, strict=True)
    ]


def with_visible_breaks(text: str, following: str = "") -> str:
    """Return a text to show: a sign and one line break for every end of a line, and no control characters.

    Args:
        text: a part of a text.
        following: the character after it; a line feed continues a line ending that `text` begins.
    """
    marked = re.sub("\r(?!\n)", "←\n", (text + following).replace("\n", "↵\n").replace("\r↵", "←↵"))
    return escape_invisible(marked if not following else marked[: -len("↵\n" if following == "\n" else following)])


def piece_details(pieces: list[Piece], predictions: Predictions, tokenizer: Tokenizer) -> str:
    """Return, as JSON, each piece, its probability, and the tokens most likely at its beginning with theirs."""
    rows = [
        [
            visible(piece.text),
            _round(math.exp(float(predictions.log_probs[piece.start : piece.end].sum()))),
            [visible(tokenizer.display(top_id)) for top_id in predictions.top_ids[piece.start].tolist()],
            [_round(prob) for prob in predictions.top_probs[piece.start].tolist()],
        ]
        for piece in pieces
    ]
    # "<" in a text could close the script element that contains this.
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _round(probability: float) -> float:
    """Round to three significant digits."""
    return float(f"{probability:.3g}")
