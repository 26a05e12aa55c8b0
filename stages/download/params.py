"""Section `download`: the corpus."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from stages.core.display import hide_secrets
from stages.core.params import Section


class DownloadParams(Section):
    """Which corpus to use, and what to do if it cannot be fetched."""

    corpus: Literal["tinyshakespeare", "python-docs", "own", "url"] = "tinyshakespeare"
    name: str | None = Field(default=None, pattern=r"^[^\x00-\x1f\x7f]{1,100}$")
    url: str | None = None
    sha256: str | None = None
    licence: str = "unknown"
    max_bytes: int = Field(default=100_000_000, ge=1)
    allow_zero_bytes: bool = False
    column: str = "text"
    sources: dict[str, Annotated[float, Field(ge=1e-6, le=1e6)]] = Field(
        default={"*": 1.0}, min_length=1, max_length=1000
    )
    when_unreachable: Literal["python-docs", "fail"] = "python-docs"

    @model_validator(mode="after")
    def _check_url(self) -> Self:
        if self.corpus != "url":
            return self
        if not self.url or not self.url.startswith("https://"):
            raise ValueError(
                f"url is {self.url!r}, but corpus is 'url': set it to an address that begins with https://"
            )
        if urlsplit(self.url).username or urlsplit(self.url).password:
            raise ValueError(
                f"url is {hide_secrets(self.url)} with a user name or password, which would be recorded with the "
                "results: put them into ~/.netrc instead"
            )
        if not self.sha256 or not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ValueError(
                f"sha256 is {self.sha256!r}, but corpus is 'url': set it to the digest of the text, 64 digits of 0-9 "
                "and a-f, as printed by `sha256sum FILE`"
            )
        return self
