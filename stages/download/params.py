"""`download:`, which text."""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from stages.core.params import Section


class DownloadParams(Section):
    """Which corpus, and what to do when it cannot be had."""

    corpus: Literal["tinyshakespeare", "python-docs", "own", "url"]
    url: str | None
    sha256: str | None
    licence: str
    max_bytes: int = Field(ge=1)
    column: str
    sources: dict[str, Annotated[float, Field(gt=0.0)]] = Field(min_length=1, max_length=1000)
    when_unreachable: Literal["python-docs", "fail"]

    @model_validator(mode="after")
    def _address_with_sum(self) -> Self:
        if self.corpus != "url":
            return self
        if not self.url or not self.url.startswith("https://"):
            raise ValueError(f"url is {self.url!r}, but corpus is 'url': give an address that begins with https://")
        if not self.sha256 or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(
                f"sha256 is {self.sha256!r}, but corpus is 'url': give the text's sum, 64 digits of 0-9 and a-f, "
                "as `sha256sum FILE` prints it"
            )
        return self
