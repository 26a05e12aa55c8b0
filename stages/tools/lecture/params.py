"""`lecture:`, the notebook of "Let's build GPT"."""

from pydantic import Field

from stages.core.params import Section


class LectureParams(Section):
    """Seeds and lengths; with other values the numbers are no longer the notebook's."""

    seed: int = Field(ge=0, lt=2**63)
    toy_seed: int = Field(ge=0, lt=2**63)
    steps: list[int] = Field(min_length=1)
