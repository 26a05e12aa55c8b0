"""Validation text, character by character, by how surprising it was."""

import json
import math
from typing import Any

import numpy as np

from stages.reporting.difficulty import visible
from stages.reporting.predictions import Predictions
from stages.text.tokenizer import CharTokenizer

LEVELS = (0.5, 1, 2, 3, 4, 6, 8)  # bits: below the first is level 0, beyond the last level 7


def characters(seen: Predictions, tokenizer: CharTokenizer, most: int) -> list[dict[str, Any]]:
    """Give the first `most` characters: what to show, whether a line ends there, and the level of surprise."""
    bits = -seen.log_p[:most].numpy() / math.log(2)
    levels = np.searchsorted(LEVELS, bits, side="right")
    text = tokenizer.decode(seen.ids[:most].numpy())
    return [
        {"text": "↵" if each == "\n" else each, "ends": each == "\n", "level": int(level)}
        for each, level in zip(text, levels, strict=True)
    ]


def details(seen: Predictions, tokenizer: CharTokenizer, most: int) -> str:
    """Give, as JSON, each character, its probability, and the likeliest ones with theirs."""
    rows = [
        [
            visible(tokenizer.characters[int(each)]),
            rounded(math.exp(log_p)),
            [visible(tokenizer.characters[int(other)]) for other in ids],
            [rounded(float(p)) for p in top],
        ]
        for each, log_p, ids, top in zip(
            seen.ids[:most].tolist(), seen.log_p[:most].tolist(), seen.top_ids[:most], seen.top_p[:most], strict=True
        )
    ]
    # "<" would let a text close the script element that this stands in.
    return json.dumps(rows, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")


def rounded(p: float) -> float:
    """Keep three significant digits."""
    return float(f"{p:.3g}")
