"""`tokenize:`, how text becomes ids."""

from typing import Literal

from pydantic import Field

from stages.core.params import Section


class TokenizeParams(Section):
    """What an id stands for, and how the text is divided."""

    kind: Literal["char", "byte", "bpe"]
    vocabulary_size: int = Field(gt=256, le=65536)
    min_count: int = Field(ge=0)
    vocabulary: str | None
    val_fraction: float = Field(gt=0.0, lt=1.0)
