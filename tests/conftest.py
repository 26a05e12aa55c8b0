"""What many tests need: a small text that never changes, parameters, and one thread, so that bits are equal."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from stages.models.params import ModelParams
from stages.tokenizers.char import CharTokenizer
from stages.train.params import TrainParams
from tests.import_graph import ROOT

MIRROR = Path(os.environ.get("FOLIO_MIRROR", ROOT / "../shared")) / "tinyshakespeare/input.txt"
WORDS = "the king and queen of a far land did speak to their people in verse so that all might learn".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def make_text(words: int = 1500, seed: int = 1) -> str:
    """Lines of eight random words: enough structure to learn, the same on every machine."""
    draw = random.Random(seed)
    return "".join(draw.choice(WORDS) + ("\n" if (index + 1) % 8 == 0 else " ") for index in range(words))


@pytest.fixture(scope="session")
def text() -> str:
    return make_text()


@pytest.fixture(scope="session")
def tokenizer(text: str) -> CharTokenizer:
    return CharTokenizer.of(text)


@pytest.fixture(scope="session")
def tokens(text: str, tokenizer: CharTokenizer) -> Tensor:
    return torch.from_numpy(tokenizer.encode(text))


def model_params(**changes: Any) -> ModelParams:
    values = {
        "kind": "gpt", "block_size": 32, "n_layer": 1, "n_head": 2, "n_embd": 16, "dropout": 0.0, "window": 0,
        "prior": "none", "order": 4, "folds": 4, "recent": False,
    }  # fmt: skip
    return ModelParams.model_validate(values | changes)


def train_params(**changes: Any) -> TrainParams:
    values = {
        "seed": 1, "max_steps": 20, "batch_size": 4, "accumulate": 1, "optimizer": "muon", "lr": 0.02,
        "lr_embedding": 0.02, "lr_head": 0.003, "weight_decay": 0.0, "warmup_steps": 2, "decay_fraction": 0.5,
        "clip_norm": 0.0, "average": 0.0, "compile": "off", "eval_every": 10, "eval_windows": 4, "log_every": 10,
        "checkpoint_every": 5.0, "checkpoint_steps": 0, "max_seconds": 0.0, "patience": 0, "keep": "last",
        "sample_every": 0, "init_from": None, "track": [], "processes": 1, "shard": False,
    }  # fmt: skip
    return TrainParams.model_validate(values | changes)
