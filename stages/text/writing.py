"""The ids of a text onto the disk, piece by piece."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stages import files
from stages.text.tokenizers.base import Ids, Tokenizer

FILE = "tokens.safetensors"
HEAD = 512  # bytes: sizes are known at the end, and stand at the beginning


def write_tokens(folder: Path, train: Iterable[Ids], val: Iterable[Ids], tokenizer: Tokenizer) -> tuple[int, int]:
    """Write ids as the tensors `train` and `val`; give how many there are of each.

    The library writes tensors that are in memory; a text may be larger, so the head is written here, as
    https://github.com/huggingface/safetensors#format says.
    """
    counts = {"train": 0, "val": 0}
    with files.replacing(folder / FILE) as temporary, temporary.open("wb") as file:
        file.write(b" " * HEAD)
        for name, pieces in (("train", train), ("val", val)):
            for ids in pieces:
                counts[name] += len(ids)
                file.write(np.ascontiguousarray(ids, dtype=tokenizer.dtype.newbyteorder("<")).data)
        file.seek(0)
        file.write(head(counts, tokenizer))
    return counts["train"], counts["val"]


def head(counts: dict[str, int], tokenizer: Tokenizer) -> bytes:
    """Say where the tensors lie, in HEAD bytes."""
    size = tokenizer.dtype.itemsize
    document: dict[str, object] = {"__metadata__": {"vocabulary": tokenizer.sum}}
    start = 0
    for name, count in counts.items():
        end = start + count * size
        document[name] = {"dtype": f"U{8 * size}", "shape": [count], "data_offsets": [start, end]}
        start = end
    return struct.pack("<Q", HEAD - 8) + json.dumps(document, separators=(",", ":")).encode().ljust(HEAD - 8)
