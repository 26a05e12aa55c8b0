"""Shared fixtures: a small text that never changes, parameters of small models, and a single thread."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.models.params import ModelParams
from stages.tokenizers.char import CharTokenizer
from stages.train.params import RuntimeParams, TrainParams
from tests.import_graph import ROOT

MIRROR = Path(os.environ.get("FOLIO_MIRROR", ROOT / "../shared")) / "tinyshakespeare/input.txt"
WORDS = "the king and queen of a far land did speak to their people in verse so that all might learn".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def _one_thread_and_seed() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(1)


def make_text(words: int = 1500, seed: int = 1) -> str:
    """Return lines of eight random words: enough structure to learn, the same on every machine."""
    draw = random.Random(seed)
    return "".join(draw.choice(WORDS) + ("\n" if (index + 1) % 8 == 0 else " ") for index in range(words))


@pytest.fixture(scope="session")
def text() -> str:
    return make_text()


@pytest.fixture(scope="session")
def tokenizer(text: str) -> CharTokenizer:
    return CharTokenizer.from_text(text)


@pytest.fixture(scope="session")
def tokens(text: str, tokenizer: CharTokenizer) -> Tensor:
    return torch.from_numpy(tokenizer.encode(text))


def model_params(**changes: Any) -> ModelParams:
    """Return the parameters of a small `gpt` without prior, with some changed."""
    values = {
        "block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 16, "sliding_window": 0, "prior": "none",
        "ngram_order": 4, "cross_fit_folds": 4, "cache_lm": False,
    }  # fmt: skip
    return ModelParams.model_validate(values | changes)


def train_params(**changes: Any) -> TrainParams:
    """Return the parameters of a short training, with some changed."""
    values = {
        "seed": 1, "max_steps": 20, "batch_size": 4, "warmup_steps": 2, "eval_every": 10, "eval_windows": 4,
        "compile": "off",
    }  # fmt: skip
    return TrainParams.model_validate(values | changes)


def runtime_params(**changes: Any) -> RuntimeParams:
    """Return runtime parameters that log every ten steps, with some changed."""
    return RuntimeParams.model_validate({"log_every": 10} | changes)


def randomize(model: Any, std: float = 0.3) -> Any:
    """Draw all weights of a model anew, so that projections which start at zero have an effect."""
    for weight in model.parameters():
        weight.data.normal_(std=std)
    return model
