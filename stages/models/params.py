"""Section `model`: the kind and size of the model; also stored beside the weights."""

from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stages.core.params import PARTIAL, Section
from stages.models.registry import MODELS


class ModelParams(Section):
    """The architecture of a model."""

    auto_keys: ClassVar[frozenset[str]] = frozenset({
        "block_size", "n_layer", "n_head", "n_embd", "dropout", "sliding_window", "prior", "ngram_order",
        "cross_fit_folds", "cache_lm", "context_experts",
    })  # fmt: skip

    kind: str = "gpt"
    block_size: int = Field(default=2048, ge=1, le=65536)
    n_layer: int = Field(default=2, ge=1, le=256)
    n_head: int = Field(default=4, ge=1, le=256)
    n_embd: int = Field(default=128, ge=2, le=65536)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    sliding_window: int = Field(default=64, ge=0)
    prior: Literal["none", "kneser_ney"] = "kneser_ney"
    ngram_order: int = Field(default=7, ge=2, le=16)
    cross_fit_folds: int = Field(default=10, ge=2, le=1000)
    cache_lm: bool = True
    context_experts: bool = True

    @field_validator("kind")
    @classmethod
    def _check_kind(cls, kind: str) -> str:
        if kind not in MODELS:
            raise ValueError(f"'{kind}' is not a model; set it to one of: {', '.join(MODELS)}")
        return kind

    @model_validator(mode="after")
    def _check_heads(self, info: ValidationInfo) -> Self:
        if info.context == PARTIAL:
            return self
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd is {self.n_embd} and n_head is {self.n_head}: n_embd must be a multiple of n_head"
            )
        if self.kind == "gpt" and self.n_embd // self.n_head % 2:
            raise ValueError(
                f"n_embd / n_head is {self.n_embd // self.n_head}: it must be even for rotary position embeddings"
            )
        return self
