"""Section `report`: what the report shows."""

from pydantic import Field

from stages.core.params import Section


class ReportParams(Section):
    """How much text the report shows."""

    highlighted_tokens: int = Field(default=1200, ge=1, le=5000)
