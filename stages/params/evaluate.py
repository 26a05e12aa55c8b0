"""`evaluate:`, how the model is measured."""

from pydantic import Field

from stages.params.base import Section


class EvaluateParams(Section):
    """How much is worked out at once."""

    batch_size: int = Field(ge=1)
