"""`tokenize:`, how text becomes ids."""

from pydantic import Field

from stages.params.base import Section


class TokenizeParams(Section):
    """How the text is divided."""

    val_fraction: float = Field(gt=0.0, lt=1.0)
    vocabulary: str | None
