"""Section `sample`: the prompt, the number and length of samples, and how tokens are sampled."""

from typing import Annotated

from pydantic import Field

from stages.core.params import Section


class SampleParams(Section):
    """What to generate."""

    prompt: str = Field(default="\n", min_length=1)
    num_samples: int = Field(default=3, ge=1)
    max_new_tokens: int = Field(default=500, ge=1)
    temperature: float = Field(default=0.8, ge=0.0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default=[])
    seed: int = Field(default=1337, ge=0, lt=2**63)
