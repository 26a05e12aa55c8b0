"""`sample:`, what the model is asked to write."""

from typing import Annotated

from pydantic import Field

from stages.core.params import Section


class SampleParams(Section):
    """Prompt, amount and how freely to draw."""

    prompt: str = Field(min_length=1)
    count: int = Field(ge=1)
    length: int = Field(ge=1)
    temperature: float = Field(ge=0.0)
    top_k: int = Field(ge=0)
    top_p: float = Field(gt=0.0, le=1.0)
    min_p: float = Field(ge=0.0, le=1.0)
    stop: list[Annotated[str, Field(min_length=1)]]
    seed: int = Field(ge=0, lt=2**63)
