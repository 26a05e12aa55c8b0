"""`model:`, what is trained; saved beside the weights as well."""

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.core.params import Section


class ModelParams(Section):
    """Kind and sizes."""

    kind: Literal["bigram", "average", "head", "multihead", "block", "lecture_gpt", "kneser_ney", "gpt"]
    block_size: int = Field(ge=1, le=65536)
    n_layer: int = Field(ge=1, le=256)
    n_head: int = Field(ge=1, le=256)
    n_embd: int = Field(ge=2, le=65536)
    dropout: float = Field(ge=0.0, lt=1.0)
    window: int = Field(ge=0)
    prior: Literal["none", "kneser_ney"]
    order: int = Field(ge=2, le=16)
    folds: int = Field(ge=2, le=1000)
    recent: bool

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.n_embd % self.n_head:
            raise ValueError(
                f"n_embd is {self.n_embd} and n_head is {self.n_head}: the width must divide evenly among the heads"
            )
        if self.n_embd // self.n_head % 2:
            raise ValueError(
                f"n_embd / n_head is {self.n_embd // self.n_head}: it must be even, since rotary positions turn pairs"
            )
        return self
