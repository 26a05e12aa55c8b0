"""`evaluate:`, how the model is measured."""

from pydantic import Field

from stages.core.params import Section


class EvaluateParams(Section):
    """How far windows move, and how much is worked out at once."""

    max_tokens: int = Field(ge=2)
    stride: int = Field(ge=0)
    short_block: int = Field(ge=1)
    batch_size: int = Field(ge=1)
