"""On what, and in which precision, the numbers are worked out."""

import os

import torch

from stages.errors import ParameterError
from stages.params.compute import ComputeParams


def prepare(params: ComputeParams) -> torch.device:
    """Choose the device and pin the threads, since another number of threads gives other last bits.

    Raises:
        ParameterError: where the device that was asked for is not there.
    """
    torch.set_num_threads(params.threads or len(os.sched_getaffinity(0)))
    torch.use_deterministic_algorithms(True)
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if params.device == "auto":
        return torch.device("cuda" if present["cuda"] else "mps" if present["mps"] else "cpu")
    if not present[params.device]:
        raise ParameterError(
            f"compute.device is '{params.device}', but torch {torch.__version__} sees no such device here; "
            f"set it to auto or cpu, or look at the driver"
        )
    return torch.device(params.device)


def training_dtype(params: ComputeParams, device: torch.device) -> torch.dtype:
    """Give the precision of training: bfloat16 where `auto` finds hardware for it, else float32.

    A CPU without such instructions works bfloat16 out in software, ten times slower.
    """
    if params.precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[params.precision]
    if device.type == "cuda":
        return torch.bfloat16
    fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
