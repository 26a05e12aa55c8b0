"""The validation text with each token highlighted by how unlikely the model found it."""

import json
import math
from typing import Any

import numpy as np

from stages.metrics.prediction_file import Predictions
from stages.report.difficulty import visible
from stages.tokenizers.base import Tokenizer

LEVELS = (0.5, 1, 2, 3, 4, 6, 8)  # bits: level 0 is below the first, level 7 above the last


def highlighted_tokens(predictions: Predictions, tokenizer: Tokenizer, count: int) -> list[dict[str, Any]]:
    """Return the first `count` tokens: the text to show, whether it ends a line, and the level of its bits."""
    bits = -predictions.log_probs[:count] / math.log(2)
    levels = np.searchsorted(LEVELS, bits, side="right")
    texts = [tokenizer.display(token_id) for token_id in predictions.token_ids[:count].tolist()]
    return [
        {"text": text.replace("\n", "↵"), "ends_line": text.endswith("\n"), "level": int(level)}
        for text, level in zip(texts, levels, strict=True)
    ]


def token_details(predictions: Predictions, tokenizer: Tokenizer, count: int) -> str:
    """Return, as JSON, each of the first `count` tokens, its probability, and the most likely tokens with theirs."""
    rows = [
        [
            visible(tokenizer.display(token_id)),
            _round(math.exp(log_prob)),
            [visible(tokenizer.display(top_id)) for top_id in top_ids],
            [_round(prob) for prob in top_probs],
        ]
        for token_id, log_prob, top_ids, top_probs in zip(
            predictions.token_ids[:count].tolist(),
            predictions.log_probs[:count].tolist(),
            predictions.top_ids[:count].tolist(),
            predictions.top_probs[:count].tolist(),
            strict=True,
        )
    ]
    # "<" in a text could close the script element that contains this.
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def _round(probability: float) -> float:
    """Round to three significant digits."""
    return float(f"{probability:.3g}")
