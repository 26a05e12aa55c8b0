"""How a text is continued, as parameters."""

from typing import Annotated

from pydantic import Field

from stages.core.params import Section


class SamplingParams(Section):
    """How tokens are sampled. The filters apply after the temperature, each to what the previous one left.

    Attributes:
        temperature: divides the logits; 0 selects the most likely token.
        top_k: sample from this many of the most likely tokens; 0 for all.
        top_p: sample from the fewest most likely tokens with this total probability (Holtzman et al. 2020,
            arXiv:1904.09751).
        min_p: sample from the tokens with at least this share of the highest probability (Nguyen et al. 2024,
            arXiv:2407.01082).
    """

    temperature: float = Field(default=1.0, ge=0.0)
    top_k: int = Field(default=0, ge=0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)


class GenerationParams(SamplingParams):
    """How a text is continued.

    Attributes:
        max_new_tokens: number of tokens to generate.
        stop: a sample ends before the first of these texts.
        seed: seed of the sample.
    """

    max_new_tokens: int = Field(default=500, ge=1)
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default=[])
    seed: int = Field(default=1337, ge=0)
