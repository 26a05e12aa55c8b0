"""Section `report`: what the report shows."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from stages.core.params import Section


class ReportParams(Section):
    """How much text the report shows."""

    highlighted_tokens: int = Field(default=1200, ge=1, le=5000)

    replaced_keys: ClassVar[Mapping[str, str]] = {
        "prompt": "is now evaluate.attention_prompt; move it",
        "characters": "is now report.highlighted_tokens; rename it",
        "statistics": "is now evaluate.prediction_tokens; move it",
    }
