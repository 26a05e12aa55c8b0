import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

from stages.core.compute_params import ComputeParams
from stages.core.device import (
    available_cores,
    prepare_device,
    select_dtype,
    tokens_to_device,
    why_no_cuda,
)
from stages.core.errors import ParameterError

AUTO = ComputeParams(threads=1)
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here: its absence was not tested")


@without_cuda
def test_a_missing_device_is_refused_with_torchs_reason():
    with pytest.raises(ParameterError, match=r"compute.device is 'cuda'.*(not compiled with CUDA|NVIDIA driver)"):
        prepare_device(AUTO.model_copy(update={"device": "cuda"}))
    assert "\n" not in why_no_cuda()


@without_cuda
@pytest.mark.parametrize(
    ("value", "warns"), [("all", True), ("0", True), ("void", False), ("none", False), ("", False)]
)
def test_an_unusable_gpu_of_a_container_gives_a_warning(value: str, warns: bool, monkeypatch, caplog):
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", value)
    assert prepare_device(AUTO).type in ("cpu", "mps")
    assert ("using the CPU" in caplog.text) is warns


@without_cuda
def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.version.cuda", "13.0")
    monkeypatch.setattr("sys.platform", "linux")
    assert "no NVIDIA GPU" in why_no_cuda(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert "no NVIDIA GPU" in why_no_cuda(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert "libcuda.so.1 is missing" in why_no_cuda(tmp_path)
    monkeypatch.setattr("ctypes.CDLL", lambda _: None)
    assert "not compiled with CUDA" in why_no_cuda(tmp_path) or "NVIDIA driver" in why_no_cuda(tmp_path)


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/", {}, 64),
        ("0::/", {"cpu.max": "max 100000"}, 64),
        ("0::/", {"cpu.max": "100000 100000"}, 1),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "350000 100000"}, 3),
        ("0::/pod/job", {"pod/cpu.max": "200000 100000", "pod/job/cpu.max": "max 100000"}, 2),
        ("0::/pod/job", {"pod/cpu.max": "200000 100000", "pod/job/cpu.max": "400000 100000"}, 2),
        ("0::/pod", {"pod/cpu.max": "broken"}, 64),
        ("4:cpu,cpuacct:/pod", {"cpu,cpuacct/cpu.cfs_quota_us": "150000", "cpu,cpuacct/cpu.cfs_period_us": "50000"}, 3),
        ("4:cpu:/\n3:memory:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ("3:cpuset:/", {"cpuset/cpu.cfs_quota_us": "100000", "cpuset/cpu.cfs_period_us": "100000"}, 64),
    ],
)
def test_the_quota_of_a_container_limits_the_threads(own, files, cores, tmp_path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(64), raising=False)
    (tmp_path / "own").write_text(own + "\n")
    for name, content in files.items():
        path = tmp_path / "cgroups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    monkeypatch.setattr("stages.core.device.CGROUPS", tmp_path / "cgroups")
    monkeypatch.setattr("stages.core.device.OWN_CGROUPS", tmp_path / "own")
    assert available_cores() == cores
    monkeypatch.setattr("stages.core.device.OWN_CGROUPS", tmp_path / "missing")
    assert available_cores() == 64


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")],
)
def test_waiting_threads_soon_give_up_their_core(environment, expected):
    code = "import stages, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    others = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=others | environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="elsewhere it would limit PyTorch as well")
@pytest.mark.parametrize(("environment", "expected"), [({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")])
def test_numpy_multiplies_in_one_thread(environment, expected):
    code = "import stages, os; print(os.environ['OPENBLAS_NUM_THREADS'])"
    others = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=others | environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_is_set(threads: int):
    prepare_device(ComputeParams(device="cpu", threads=threads))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("auto", None)]
)
def test_auto_precision_is_bfloat16_where_it_is_faster(monkeypatch, precision, expected):
    compute = AUTO.model_copy(update={"precision": precision})
    for capabilities, is_faster in (
        ({}, False),  # not x86
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False, "amx_bf16": False}, False),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
    ):
        monkeypatch.setattr("torch.cpu.get_capabilities", lambda found=capabilities: found)
        auto = torch.bfloat16 if is_faster else torch.float32
        assert select_dtype(compute, torch.device("cpu")) == (expected or auto)


def test_wide_unsigned_tokens_are_converted_outside_the_cpu():
    for dtype, elsewhere in ((np.uint8, torch.uint8), (np.uint16, torch.int32), (np.uint32, torch.int32)):
        ids = np.array([0, 200], dtype=dtype)
        on_cpu = tokens_to_device(ids, torch.device("cpu"))
        assert np.dtype(dtype).name == str(on_cpu.dtype).removeprefix("torch.")
        assert on_cpu.tolist() == [0, 200]
        assert tokens_to_device(ids, torch.device("meta")).dtype == elsewhere
