"""The ids of a text onto the disk, piece by piece."""

import json
import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from stages import files
from stages.text.tokenizer import CharTokenizer, Ids

FILE = "tokens.safetensors"


def write_tokens(folder: Path, pieces: Iterable[Ids], train: int, val: int, tokenizer: CharTokenizer) -> None:
    """Write the ids of a text, `train` of them and then `val`, as the tensors of those names.

    The library writes tensors that are in memory; a text may be larger, so the head is written here, as
    https://github.com/huggingface/safetensors#format says.
    """
    size = tokenizer.dtype.itemsize
    about = {"dtype": f"U{8 * size}"}
    head = {
        "__metadata__": {"vocabulary": tokenizer.sum},
        "train": about | {"shape": [train], "data_offsets": [0, train * size]},
        "val": about | {"shape": [val], "data_offsets": [train * size, (train + val) * size]},
    }
    encoded = json.dumps(head, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    with files.replacing(folder / FILE) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)
        for piece in pieces:
            file.write(np.ascontiguousarray(piece, dtype=tokenizer.dtype.newbyteorder("<")).data)
