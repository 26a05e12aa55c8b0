"""The ids of a text as torch maps them, in their small type."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.core.errors import TextError
from stages.tokenize.token_writer import FILE
from stages.tokenizers.base import Tokenizer


def load_tokens(folder: Path, tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """Give the ids that train and those that validate, each (N,), in the smallest unsigned type, mapped, not read.

    They are not to be written to.

    Raises:
        TextError: where the file is missing or damaged, or belongs to another vocabulary.
    """
    path = folder / FILE
    try:
        with safe_open(path, "np") as opened:
            vocabulary = (opened.metadata() or {})["vocabulary"]
            counts = [opened.get_slice(name).get_shape()[0] for name in ("train", "val")]
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; `dvc repro tokenize` makes it") from None
    except (SafetensorError, KeyError) as error:
        raise TextError(f"{path} is damaged ({error}); `dvc repro -f tokenize` makes it again") from None
    if vocabulary != tokenizer.sum:
        raise TextError(
            f"{path} was made with another vocabulary than this tokenizer's {len(tokenizer)} {tokenizer.unit}s: the "
            f"tokens belong to another tokenizer; tokenize and train again"
        )
    train, val = torch.split(_mapped(path, sum(counts), tokenizer), counts)
    return train, val


@dataclass(frozen=True)
class Source:
    """Where in the training ids a source begins, and how often an id of it is drawn, beside the others'."""

    start: int
    weight: float


def load_sources(folder: Path) -> list[Source]:
    """Give the sources of the training ids, from the first on; `load_tokens` has found the file whole."""
    with safe_open(folder / FILE, "np") as opened:
        return [Source(*each) for each in json.loads(opened.metadata()["sources"])]


def on_device(tokens: Tensor, device: torch.device) -> Tensor:
    """Move ids to a device. But for CPUs, none can take parts of a tensor of unsigned numbers of two bytes or more."""
    return (tokens if device.type == "cpu" or tokens.dtype == torch.uint8 else tokens.int()).to(device)


def _mapped(path: Path, count: int, tokenizer: Tokenizer) -> Tensor:
    """Map the data, which is `train` and then `val` (see `write_tokens`).

    The library would map it so that it can be changed in memory, and then all of it counts towards what a process may
    hold (RLIMIT_DATA, strict overcommit).
    """
    start = path.stat().st_size - count * tokenizer.dtype.itemsize
    ids = np.memmap(path, tokenizer.dtype, mode="r", offset=start, shape=(count,))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(ids)


def check_length(train: Tensor, val: Tensor, block_size: int) -> None:
    """Refuse a text that has no window of `block_size` tokens and one more, to predict.

    Raises:
        TextError: naming the part that is too short.
    """
    for name, part in (("training", train), ("validation", val)):
        if len(part) <= block_size:
            raise TextError(
                f"the {name} part has {len(part)} tokens, model.block_size is {block_size}: a window and the "
                f"token after it do not fit; set model.block_size to {len(part) - 1} or less, or take a longer text"
            )
