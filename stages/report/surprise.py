"""Validation text, token by token, by how surprising it was."""

import json
import math
from typing import Any

import numpy as np

from stages.evaluate.predictions import Predictions
from stages.report.difficulty import visible
from stages.tokenizers.base import Tokenizer

LEVELS = (0.5, 1, 2, 3, 4, 6, 8)  # bits: below the first is level 0, beyond the last level 7


def characters(seen: Predictions, tokenizer: Tokenizer, most: int) -> list[dict[str, Any]]:
    """Give the first `most` tokens: what to show, whether a line ends there, and the level of surprise."""
    bits = -seen.log_p[:most].numpy() / math.log(2)
    levels = np.searchsorted(LEVELS, bits, side="right")
    texts = [tokenizer.shown(each) for each in seen.ids[:most].tolist()]
    return [
        {"text": each.replace("\n", "↵"), "ends": each.endswith("\n"), "level": int(level)}
        for each, level in zip(texts, levels, strict=True)
    ]


def details(seen: Predictions, tokenizer: Tokenizer, most: int) -> str:
    """Give, as JSON, each token, its probability, and the likeliest ones with theirs."""
    rows = [
        [
            visible(tokenizer.shown(int(each))),
            rounded(math.exp(log_p)),
            [visible(tokenizer.shown(int(other))) for other in ids],
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
