"""Section `compute`: the device, the threads and the precision of every stage that uses PyTorch."""

from typing import Literal

from pydantic import Field

from stages.core.params import Section


class ComputeParams(Section):
    """Where and how precisely to compute."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int = Field(default=0, ge=0, le=1024)
    deterministic: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
