"""The predictions file: what `evaluate` leaves for `report` to draw, so that the report needs no model."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from stages.core.errors import TextError
from stages.core.files import write_bytes

ARRAYS = ("token_ids", "log_probs", "top_ids", "top_probs", "attention", "attention_ids")
SIZES = ("block_size", "short_block_size", "stride")


@dataclass(frozen=True)
class Predictions:
    """The predictions of a model on the beginning of the validation text.

    Attributes:
        token_ids: the predicted tokens, (N,).
        log_probs: log-probability of each, in nats, (N,).
        top_ids: the most likely tokens at each position, best first, (N, K).
        top_probs: their probabilities, (N, K).
        attention: attention weights for a short text, (layers, H, T, T); empty for a model without attention.
        attention_ids: that text, (T,).
        block_size: tokens per window of `val_loss`.
        short_block_size: tokens per window of `short_block_val_loss`.
        stride: tokens that windows of `sliding_val_loss` move by.
    """

    token_ids: NDArray[np.integer[Any]]
    log_probs: NDArray[np.floating[Any]]
    top_ids: NDArray[np.integer[Any]]
    top_probs: NDArray[np.floating[Any]]
    attention: NDArray[np.floating[Any]]
    attention_ids: NDArray[np.integer[Any]]
    block_size: int
    short_block_size: int
    stride: int


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write a predictions file."""
    arrays = {name: np.ascontiguousarray(getattr(predictions, name)) for name in ARRAYS}
    sizes = {name: getattr(predictions, name) for name in SIZES}
    write_bytes(path, save(arrays, metadata={"sizes": json.dumps(sizes)}))


def read_predictions(path: Path) -> Predictions:
    """Return the content of a predictions file.

    Raises:
        TextError: if the file is missing or damaged.
    """
    try:
        with safe_open(path, "np") as file:
            sizes: dict[str, Any] = json.loads(file.metadata()["sizes"])
            arrays: dict[str, Any] = {name: file.get_tensor(name) for name in ARRAYS}
            return Predictions(**arrays, **sizes)
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; `dvc repro evaluate` writes it") from None
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise TextError(f"{path} is damaged ({error}); `dvc repro -f evaluate` writes it again") from None
