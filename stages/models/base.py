"""What every rung is: ids in, logits out.

A module in this folder that is named like a `model.kind` holds that rung, as a class called `Model`. Shapes, here and
in every rung: B batch, T time (positions), C channels (width), H heads, V vocabulary.
"""

from abc import abstractmethod
from importlib import import_module

import torch
from torch import Tensor, nn

from stages.models.ngram.counts import Level
from stages.models.params import ModelParams


class LanguageModel(nn.Module):
    """A model of the next character. A rung builds its parts in `__init__` and says in `forward` how they act.

    `stream_dtype` is the precision of what flows through a rung's blocks; its weights stay float32.
    """

    stream_dtype = torch.float32

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__()
        self.params = params
        self.vocabulary_size = vocabulary_size

    @abstractmethod
    def forward(self, ids: Tensor) -> Tensor:
        """Give the next character's logits, (B, T, V), at every position of `ids`, (B, T) of integers."""

    def fit(self, tokens: Tensor) -> list[Level] | None:  # noqa: ARG002 - most rungs count nothing
        """Learn from the training text what can be had by counting, before any gradient; give the counts."""
        return None


def build(params: ModelParams, vocabulary_size: int) -> LanguageModel:
    """Make the rung that `params.kind` names, with fresh weights from torch's global generator."""
    model: LanguageModel = import_module(f"stages.models.{params.kind}").Model(params, vocabulary_size)
    return model


def count_parameters(model: nn.Module) -> int:
    """Count the numbers that gradients teach; what a rung counted is not among them."""
    return sum(parameter.numel() for parameter in model.parameters())
