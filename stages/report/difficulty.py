"""Which tokens are hard and easy to predict, and after which others."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.core.display import escape_controls
from stages.tokenizers.base import Tokenizer

CONTEXT_LENGTH = 3
NOT_IN_XML = re.compile("[\ud800-\udfff\ufffe\uffff]")
ROWS_SHOWN = 8
MIN_FREQUENCY = 1 / 2000  # a mean over fewer occurrences says little

Ids = NDArray[np.integer[Any]]
Bits = NDArray[np.floating[Any]]


def bits_by_token(ids: Ids, bits: Bits, tokenizer: Tokenizer) -> pd.DataFrame:
    """Return, for each frequent token, how often it occurs and its mean bits, hardest first."""
    return _mean_bits(ids, bits, lambda token_id: visible(tokenizer.display(token_id)), tokenizer.unit)


def bits_by_context(ids: Ids, bits: Bits, tokenizer: Tokenizer) -> pd.DataFrame:
    """Return, for each frequent context of CONTEXT_LENGTH tokens, how often it occurs and the mean bits of the next."""
    if len(ids) <= CONTEXT_LENGTH:
        return _mean_bits(ids[:0], bits[:0], str, "context")
    vocab_size = len(tokenizer)  # below 2^21, so that three ids fit 63 bits
    keys = np.zeros(len(ids) - CONTEXT_LENGTH, np.int64)
    for back in range(CONTEXT_LENGTH):
        keys = keys * vocab_size + ids[back : len(ids) - CONTEXT_LENGTH + back]

    def name(key: int) -> str:
        context = [key // vocab_size ** (CONTEXT_LENGTH - 1 - index) % vocab_size for index in range(CONTEXT_LENGTH)]
        return visible(tokenizer.display(*context))

    return _mean_bits(keys, bits[CONTEXT_LENGTH:], name, "context")


def hardest_and_easiest(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the first rows of a table and its last ones in reverse order, at most ROWS_SHOWN and without overlap."""
    count = min(ROWS_SHOWN, len(table) // 2)
    return table.head(count), table.tail(count).iloc[::-1]


def visible(text: str) -> str:
    """Return text with spaces, line breaks, tabs and control characters as visible ones, as XML allows them."""
    return escape_invisible(text.replace(" ", "␣").replace("\n", "↵").replace("\r", "←").replace("\t", "⇥"))


def escape_invisible(text: str) -> str:
    """Return text without control characters, as XML requires; tabs and line feeds remain."""
    return NOT_IN_XML.sub(lambda match: f"\\u{ord(match[0]):04x}", escape_controls(text))


def _mean_bits(keys: Ids, bits: Bits, name: Callable[[int], str], label: str) -> pd.DataFrame:
    groups = pd.DataFrame({"key": keys, "bits": bits}).groupby("key", as_index=False)
    table = groups.agg(times=("bits", "size"), bits=("bits", "mean"))
    min_times = max(2, math.ceil(len(keys) * MIN_FREQUENCY))
    table = table[table["times"] >= min_times].sort_values("bits", ascending=False)
    names = [name(int(key)) for key in table["key"]]
    return pd.DataFrame({label: names, "times": table["times"].to_numpy(), "bits": table["bits"].to_numpy()})
