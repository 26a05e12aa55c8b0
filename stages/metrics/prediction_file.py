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
from stages.tokenizers.base import Tokenizer

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


def write_predictions(path: Path, predictions: Predictions, tokenizer: Tokenizer) -> None:
    """Write a predictions file."""
    arrays = {name: np.ascontiguousarray(getattr(predictions, name)) for name in ARRAYS}
    sizes = {name: getattr(predictions, name) for name in SIZES}
    # One entry, because the order of several would change from file to file.
    about = json.dumps({"sizes": sizes, "tokenizer": tokenizer.fingerprint})
    write_bytes(path, save(arrays, metadata={"about": about}))


def read_predictions(path: Path, tokenizer: Tokenizer) -> Predictions:
    """Return the content of a predictions file.

    Raises:
        TextError: if the file is missing or damaged, or is of another tokenizer.
    """
    try:
        with safe_open(path, "np") as file:
            about: dict[str, Any] = json.loads(file.metadata()["about"])
            arrays: dict[str, Any] = {name: file.get_tensor(name) for name in ARRAYS}
            if about["tokenizer"] != tokenizer.fingerprint:
                raise ValueError("its tokens are those of another tokenizer")
            predictions = Predictions(**arrays, **about["sizes"])
            _check(predictions, len(tokenizer))
            return predictions
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; run `dvc repro evaluate` to write it") from None
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise TextError(f"{path} is damaged ({error}); run `dvc repro -f evaluate` to write it again") from None


def _check(predictions: Predictions, vocab_size: int) -> None:
    """Check that the arrays fit together and to the vocabulary.

    Raises:
        ValueError: if they do not.
    """
    count, length = len(predictions.token_ids), len(predictions.attention_ids)
    attention, top = predictions.attention.shape, predictions.top_ids.shape
    shapes_fit = (
        (predictions.token_ids.shape == predictions.log_probs.shape == (count,) and count > 0)
        and (len(top) == 2 and top[0] == count and top == predictions.top_probs.shape)
        and (len(attention) == 4 and (attention[0] == 0 or (length > 0 and attention[2:] == (length, length))))
    )
    for ids in (predictions.token_ids, predictions.top_ids, predictions.attention_ids):
        if not np.issubdtype(ids.dtype, np.integer) or not 0 <= ids.min(initial=0) <= ids.max(initial=0) < vocab_size:
            raise ValueError("it has tokens outside the vocabulary")
    sizes = (getattr(predictions, name) for name in SIZES)
    if not shapes_fit or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError("its arrays do not fit together")
    numbers = (predictions.top_probs, predictions.attention)
    if not all(np.isfinite(values).all() and (values >= 0).all() for values in numbers):
        raise ValueError("it has impossible probabilities")
    if not (np.isfinite(predictions.log_probs).all() and (predictions.log_probs <= 0).all()):
        raise ValueError("it has impossible log-probabilities")
