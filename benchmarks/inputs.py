"""What benchmarks of training read: params.yaml, and the tokens that `dvc repro tokenize` wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from torch import Tensor

from stages.core.device import ComputeParams, prepare
from stages.tokenizers.registry import load_tokenizer
from stages.tokenizers.token_files import load_tokens


@dataclass(frozen=True)
class Inputs:
    """Parameters as YAML has them, and the ids that train and validate, on the device of `compute`."""

    document: dict[str, Any]
    compute: ComputeParams
    vocab_size: int
    train: Tensor
    val: Tensor


def read_inputs() -> Inputs:
    """Read them from the work tree, and pin the threads."""
    document = YAML(typ="safe").load(Path("params.yaml"))
    compute = ComputeParams.model_validate(document["compute"])
    tokenizer = load_tokenizer(Path("data/tokens/tokenizer.json"))
    device = prepare_device(compute)
    train, val = (part.to(device) for part in load_tokens(Path("data/tokens"), tokenizer))
    return Inputs(document, compute, len(tokenizer), train, val)
