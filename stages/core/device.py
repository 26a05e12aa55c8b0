"""On what, and in which precision, the numbers are worked out."""

import os
from typing import Literal

import torch
from pydantic import Field

from stages.core.errors import ParameterError
from stages.core.logs import log
from stages.core.params import Section


class ComputeParams(Section):
    """Device and threads, for every stage that uses torch."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    threads: int = Field(ge=0, le=1024)
    deterministic: bool
    precision: Literal["auto", "float32", "bfloat16"]


def prepare(params: ComputeParams) -> torch.device:
    """Choose the device and pin the threads, since another number of threads gives other last bits.

    Raises:
        ParameterError: where the device that was asked for is not there.
    """
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes of one training on this machine
    torch.set_num_threads(params.threads or max(1, len(os.sched_getaffinity(0)) // here))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for equal bits
    torch.use_deterministic_algorithms(params.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads such memory
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if params.device == "auto":
        if not present["cuda"] and gpu_was_given():
            log.warning("a GPU was given to this container, and cannot be used (%s); working on the CPU", why_no_cuda())
        return cuda() if present["cuda"] else torch.device("mps" if present["mps"] else "cpu")
    if not present[params.device]:
        why = f": {why_no_cuda()}" if params.device == "cuda" else ""
        raise ParameterError(
            f"compute.device is '{params.device}', but torch {torch.__version__} sees no such device here{why}; "
            f"set it to auto or cpu, or mend that"
        )
    return cuda() if params.device == "cuda" else torch.device(params.device)


def cuda() -> torch.device:
    """Give this process's GPU: torchrun numbers the processes of a machine."""
    number = os.environ.get("LOCAL_RANK")
    if number is None:
        return torch.device("cuda")
    torch.cuda.set_device(int(number))
    return torch.device("cuda", int(number))


def gpu_was_given() -> bool:
    """Say whether the container runtime was asked for a GPU: it sets this variable then."""
    return os.environ.get("NVIDIA_VISIBLE_DEVICES", "void") not in ("", "void", "none")


def why_no_cuda() -> str:
    """Give torch's own reason, in its first sentence: no driver, one that is too old, a build without CUDA."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().partition(". ")[0].rstrip(".")
    return "torch gives no reason"


def environment(params: ComputeParams, device: torch.device, dtype: torch.dtype) -> dict[str, str | int | bool]:
    """Name what of the machine decides the last bits."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        "torch": torch.__version__,
        "device": f"{device.type} {gpu}".strip(),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "precision": str(dtype).removeprefix("torch."),
        "deterministic": params.deterministic,
    }


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
