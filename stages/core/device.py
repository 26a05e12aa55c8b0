"""The device, the number of threads and the numeric precision of a computation."""

import ctypes
import math
import os
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stages.core.compute_params import ComputeParams
from stages.core.errors import ParameterError
from stages.core.logs import log

CGROUPS, OWN_CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def prepare_device(params: ComputeParams) -> torch.device:
    """Return the device to compute on, after setting the number of threads and deterministic algorithms.

    The number of threads is fixed because another number can change the last digits of a result.

    Raises:
        ParameterError: if the requested device is not available.
    """
    torch.set_num_threads(params.threads or max(1, available_cores() // local_process_count()))
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS for deterministic results
    # As torch.use_deterministic_algorithms, but does not import the compiler, which takes a second or two.
    torch.set_deterministic_debug_mode("error" if params.deterministic else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # such memory is never read
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if params.device == "auto":
        if not available["cuda"] and _container_has_gpu():
            log.warning("the container was given a GPU that cannot be used (%s); using the CPU", why_no_cuda())
        return _cuda_device() if available["cuda"] else torch.device("mps" if available["mps"] else "cpu")
    if not available[params.device]:
        reason = f": {why_no_cuda()}" if params.device == "cuda" else ""
        raise ParameterError(
            f"compute.device is '{params.device}', but torch {torch.__version__} finds no such device{reason}; "
            f"set it to auto or cpu, or fix the installation"
        )
    return _cuda_device() if params.device == "cuda" else torch.device(params.device)


def local_process_count() -> int:
    """Return the number of processes that train together on this machine, as torchrun sets it."""
    count = os.environ.get("LOCAL_WORLD_SIZE", "")
    return max(1, int(count)) if count.isdecimal() else 1


def available_cores() -> int:
    """Return the number of CPU cores that this process may use, by its affinity and by the quota of its container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # not on macOS
    return int(max(1, min([cores, *map(_cpu_quota, control_groups("cpu"))])))


def control_groups(controller: str) -> list[Path]:
    """Return the folders of the control groups of this process, and of those above them; none on macOS.

    Containers, Kubernetes, systemd and Slurm set limits there.

    Args:
        controller: the kind of limit, `cpu` or `memory`.
    """
    try:
        lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):  # version 2, or the controller of version 1
            own = CGROUPS / controllers / path.strip("/")
            folders += (own, *own.parents)
    return folders


def _cpu_quota(cgroup: Path) -> float:
    """Return the number of cores that a control group may use, or infinity if it has no quota."""
    names = ("cpu.max",) if (cgroup / "cpu.max").exists() else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    try:
        quota, period = " ".join((cgroup / name).read_text(encoding="utf-8") for name in names).split()
    except (OSError, ValueError):
        return math.inf
    return int(quota) / int(period) if quota.isdigit() else math.inf  # "max" and -1: no quota


def select_dtype(params: ComputeParams, device: torch.device) -> torch.dtype:
    """Return the precision of training: with `auto`, bfloat16 if the device is faster with it, otherwise float32."""
    if params.precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[params.precision]
    if device.type == "cuda":
        is_faster = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        is_faster = device.type == "cpu" and has_fast_bfloat16()
    return torch.bfloat16 if is_faster else torch.float32


def has_fast_bfloat16() -> bool:
    """Return whether the CPU computes faster in bfloat16 than in float32.

    It does with AMX. With AVX512-BF16 alone, processors of Intel are slower (measured in docs/experiments.md); those of
    other makers are assumed to be faster. Without either, a CPU is ten times slower.
    """
    found = torch.cpu.get_capabilities()
    is_intel = "Intel" in found.get("cpu_name", "")
    return bool(found.get("amx_bf16") or (found.get("avx512_bf16") and not is_intel))


def describe_environment(
    params: ComputeParams, device: torch.device, dtype: torch.dtype
) -> dict[str, str | int | bool]:
    """Return the properties of the machine that determine the last digits of a result, by name."""
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return {
        "torch": torch.__version__,
        "device": f"{device.type} {gpu}".strip(),
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "precision": str(dtype).removeprefix("torch."),
        "deterministic": params.deterministic,
    }


def tokens_to_device(token_ids: NDArray[np.unsignedinteger[Any]], device: torch.device) -> Tensor:
    """Return token ids, (N,), as a tensor on a device; on the CPU the tensor shares the memory-mapped file.

    On other devices, unsigned types wider than 8 bits become int32, because PyTorch can index them on the CPU only.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        tokens = torch.from_numpy(token_ids)
    return (tokens if device.type == "cpu" or tokens.dtype == torch.uint8 else tokens.int()).to(device)


@cache
def cached_tensor(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return numbers as a tensor, (N,) float32, on a device; copied there once, because every copy waits for a GPU."""
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)


def why_no_cuda(devices: Path = Path("/dev")) -> str:
    """Return why CUDA cannot be used: a build without CUDA, no GPU, no driver, or what PyTorch says of the driver.

    Args:
        devices: where Linux shows the GPUs that a process may use.
    """
    if torch.version.cuda and sys.platform == "linux":
        has_gpu = any(devices.glob("nvidia[0-9]*")) or (devices / "dxg").exists()  # dxg: Windows' Subsystem for Linux
        if not has_gpu:
            return (
                "there is no NVIDIA GPU in /dev; a container gets one by `--gpus all` and the NVIDIA Container Toolkit"
            )
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            return "there is an NVIDIA GPU, but its driver's library libcuda.so.1 is missing; install the driver"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return str(error).strip().partition(". ")[0].rstrip(".")
    return "torch gives no reason"


def _cuda_device() -> torch.device:
    """Return the GPU of this process; torchrun numbers the processes of a machine."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or not rank.isdecimal():
        return torch.device("cuda")
    torch.cuda.set_device(int(rank))
    return torch.device("cuda", int(rank))


def _container_has_gpu() -> bool:
    """Return whether the container runtime was asked for a GPU, which sets this variable."""
    return os.environ.get("NVIDIA_VISIBLE_DEVICES", "void") not in ("", "void", "none")
