"""On what the numbers are worked out."""

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
