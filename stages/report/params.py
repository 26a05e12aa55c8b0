"""`report:`, what the page shows of a model."""

from pydantic import Field

from stages.core.params import Section


class ReportParams(Section):
    """The text whose attention is drawn, and how much validation text is coloured and counted."""

    prompt: str | None = Field(min_length=1, max_length=32)
    characters: int = Field(ge=1, le=5000)
    statistics: int = Field(ge=1)
