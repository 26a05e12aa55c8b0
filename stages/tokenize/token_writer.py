"""The ids of a text onto the disk, piece by piece."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stages.core import files
from stages.tokenize.splitting import Span
from stages.tokenizers.base import Ids, Tokenizer

FILE = "tokens.safetensors"
HEAD = 1 << 16  # bytes: sizes and sources are known at the end, and stand at the beginning


Parts = Iterable[tuple[Span, Iterable[Ids]]]


def write_tokens(folder: Path, train: Parts, val: Parts, tokenizer: Tokenizer) -> tuple[int, int]:
    """Write ids, span by span, as the tensors `train` and `val`; give how many there are of each.

    At which id of `train` each source begins, and with which weight, is written as well. The library writes tensors
    that are in memory; a text may be larger, so the head is written here, as
    https://github.com/huggingface/safetensors#format says.
    """
    counts = {"train": 0, "val": 0}
    sources: list[tuple[int, float]] = []
    with files.replacing(folder / FILE) as temporary, temporary.open("wb") as file:
        file.write(b" " * HEAD)
        for name, spans in (("train", train), ("val", val)):
            for span, pieces in spans:
                if name == "train":
                    sources.append((counts[name], span.weight))
                for ids in pieces:
                    counts[name] += len(ids)
                    file.write(np.ascontiguousarray(ids, dtype=tokenizer.dtype.newbyteorder("<")).data)
        about = {"vocabulary": tokenizer.sum, "sources": json.dumps(sources)}
        file.seek(0)
        file.write(head(counts, about, tokenizer.dtype.itemsize))
    return counts["train"], counts["val"]


def head(counts: dict[str, int], about: dict[str, str], size: int) -> bytes:
    """Say where tensors of so many ids of `size` bytes lie, in HEAD bytes."""
    document: dict[str, object] = {"__metadata__": about}
    start = 0
    for name, count in counts.items():
        end = start + count * size
        document[name] = {"dtype": f"U{8 * size}", "shape": [count], "data_offsets": [start, end]}
        start = end
    return struct.pack("<Q", HEAD - 8) + json.dumps(document, separators=(",", ":")).encode().ljust(HEAD - 8)
