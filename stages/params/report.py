"""`report:`, what the page shows of a model."""

from pydantic import Field

from stages.params.base import Section


class ReportParams(Section):
    """The text whose attention is drawn, and how much validation text is coloured and counted."""

    prompt: str | None
    characters: int = Field(ge=1, le=5000)
    statistics: int = Field(ge=1)
