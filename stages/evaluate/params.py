"""Section `evaluate`: how the model is evaluated, and what is predicted for the report."""

from pydantic import Field

from stages.core.params import Section


class EvaluateParams(Section):
    """The windows of the losses, and the texts of the predictions."""

    max_tokens: int = Field(default=1_000_000, ge=2)
    stride: int = Field(default=0, ge=0)
    short_block_size: int = Field(default=256, ge=1)
    batch_size: int = Field(default=4, ge=1)
    prediction_tokens: int = Field(default=50_000, ge=1)
    attention_prompt: str | None = Field(default=None, min_length=1, max_length=32)
