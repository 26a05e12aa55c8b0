"""What benchmarks of training read: params.yaml, and the tokens that `dvc repro tokenize` wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ruamel.yaml import YAML
from torch import Tensor

from stages.core.compute_params import ComputeParams
from stages.core.device import prepare_device, tokens_to_device
from stages.core.params import without_auto
from stages.models.base import LanguageModel
from stages.models.params import ModelParams
from stages.tokenizers.registry import load_tokenizer
from stages.tokenizers.token_files import load_tokens
from stages.train.auto import Settings, TextSize, choose_settings
from stages.train.params import RuntimeParams, TrainParams
from stages.train.setup import prepare_training
from stages.train.trainer import Trainer


@dataclass(frozen=True)
class TrainingInputs:
    """The sections of params.yaml, and the tokens on the device of `compute`.

    Attributes:
        document: params.yaml.
        compute: section `compute`.
        vocab_size: V.
        train: training tokens, (N,).
        val: validation tokens, (M,).
        token_classes: see `Tokenizer.token_classes`, (3, V).
    """

    document: dict[str, Any]
    compute: ComputeParams
    vocab_size: int
    train: Tensor
    val: Tensor
    token_classes: Tensor

    def choose_settings(self, model: dict[str, Any] | None = None, train: dict[str, Any] | None = None) -> Settings:
        """Return the settings of a training, with some keys of `model` and `train` changed; without logging."""
        settings = Settings(
            without_auto(self.document["model"], ModelParams) | (model or {}),
            without_auto(self.document["train"], TrainParams) | {"eval_every": 10**9} | (train or {}),
        )
        text = TextSize(len(self.train), len(self.val), self.vocab_size)
        choose_settings(settings, text, self.document["budget"])
        return settings

    def prepare_training(
        self, model: dict[str, Any] | None = None, train: dict[str, Any] | None = None
    ) -> tuple[LanguageModel, Trainer | None]:
        """Return a new model and its trainer; the arguments are those of `choose_settings`."""
        settings = self.choose_settings(model, train)
        return prepare_training(
            ModelParams.model_validate(settings.model),
            TrainParams.model_validate(settings.train),
            RuntimeParams(log_every=10**9),
            self.compute,
            self.vocab_size,
            self.train,
            self.val,
            token_classes=self.token_classes,
        )


def read_inputs() -> TrainingInputs:
    """Read them from the working tree, and set the number of threads."""
    document = YAML(typ="safe").load(Path("params.yaml"))
    compute = ComputeParams.model_validate(document["compute"])
    tokenizer = load_tokenizer(Path("data/tokens/tokenizer.json"))
    device = prepare_device(compute)
    train, val = (tokens_to_device(ids, device) for ids in load_tokens(Path("data/tokens"), tokenizer))
    token_classes = torch.from_numpy(tokenizer.token_classes())
    return TrainingInputs(document, compute, len(tokenizer), train, val, token_classes)
