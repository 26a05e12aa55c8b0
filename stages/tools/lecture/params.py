"""Section `lecture`: seeds and lengths of the notebook of "Let's build GPT"."""

from pydantic import Field

from stages.core.params import Section


class LectureParams(Section):
    """With other values, the results differ from those of the notebook."""

    seed: int = Field(default=1337, ge=0, lt=2**63)
    toy_seed: int = Field(default=42, ge=0, lt=2**63)
    steps: list[int] = Field(default=[1000, 10000, 100000], min_length=1)
