"""Which characters, or tokens of another kind, a model finds hard, and after which others."""

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.tokenizers.base import Tokenizer

CONTEXT = 3  # tokens before the one that is predicted
SHOWN = 8
COMMON = 2000  # one of so many characters, at least, must be of a kind for its mean to say something


def of_tokens(ids: NDArray[np.int64], bits: NDArray[np.float64], tokenizer: Tokenizer) -> pd.DataFrame:
    """Give, for each token that is common enough, how often it came and its mean bits, hardest first."""
    return _means(ids, bits, lambda each: visible(tokenizer.shown(each)), tokenizer.unit)


def of_contexts(ids: NDArray[np.int64], bits: NDArray[np.float64], tokenizer: Tokenizer) -> pd.DataFrame:
    """Give the same by the CONTEXT tokens before the one that is predicted."""
    if len(ids) <= CONTEXT:
        return _means(ids[:0], bits[:0], str, "after")
    size = len(tokenizer)  # below 2^21: three of them fit 63 bits
    key = np.zeros(len(ids) - CONTEXT, np.int64)
    for back in range(CONTEXT):
        key = key * size + ids[back : len(ids) - CONTEXT + back]

    def name(each: int) -> str:
        digits = [each // size ** (CONTEXT - 1 - place) % size for place in range(CONTEXT)]
        return visible(tokenizer.decode(digits))

    return _means(key, bits[CONTEXT:], name, "after")


def _means(keys: NDArray[np.int64], bits: NDArray[np.float64], name: Callable[[int], str], label: str) -> pd.DataFrame:
    grouped = pd.DataFrame({"key": keys, "bits": bits}).groupby("key", as_index=False)
    table = grouped.agg(times=("bits", "size"), bits=("bits", "mean"))
    common = table.query("times >= @least", local_dict={"least": max(2, math.ceil(len(keys) / COMMON))})
    common = common.sort_values("bits", ascending=False)
    names = [name(int(key)) for key in common["key"]]
    return pd.DataFrame({label: names, "times": common["times"].to_numpy(), "bits": common["bits"].to_numpy()})


def ends(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give the first rows of a table and, last one first, its last, at most SHOWN of each and none in both."""
    count = min(SHOWN, len(table) // 2)
    return table.head(count), table.tail(count).iloc[::-1]


def visible(text: str) -> str:
    """Show spaces, line ends and tabs as signs."""
    return text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")
