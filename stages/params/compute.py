"""`compute:`, on what the numbers are worked out."""

from typing import Literal

from pydantic import Field

from stages.params.base import Section


class ComputeParams(Section):
    """Device and threads, for every stage that uses torch."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: int = Field(ge=0, le=1024)
    deterministic: bool
    precision: Literal["auto", "float32", "bfloat16"]
