"""Section `sample`: the prompt, the number and length of samples, and how tokens are sampled."""

from pydantic import Field

from stages.generation.params import GenerationParams


class SampleParams(GenerationParams):
    """What to generate. The first sample has `seed`, each of the others the next number."""

    prompt: str | None = Field(default=None, min_length=1)
    num_samples: int = Field(default=3, ge=1)
    temperature: float = Field(default=0.8, ge=0.0)
