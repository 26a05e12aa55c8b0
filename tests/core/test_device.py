import numpy as np
import pytest
import torch

from stages.core.device import ComputeParams, prepare_device, select_dtype, tokens_to_device, why_no_cuda
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


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_is_set(threads: int):
    prepare_device(ComputeParams(device="cpu", threads=threads))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("precision", "expected"), [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("auto", None)]
)
def test_auto_precision_depends_on_the_hardware(monkeypatch, precision, expected):
    compute = AUTO.model_copy(update={"precision": precision})
    for supported in (True, False):
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda supported=supported: supported)
        auto = torch.bfloat16 if supported else torch.float32
        assert select_dtype(compute, torch.device("cpu")) == (expected or auto)


def test_wide_unsigned_tokens_are_converted_outside_the_cpu():
    for dtype, elsewhere in ((np.uint8, torch.uint8), (np.uint16, torch.int32), (np.uint32, torch.int32)):
        ids = np.array([0, 200], dtype=dtype)
        on_cpu = tokens_to_device(ids, torch.device("cpu"))
        assert np.dtype(dtype).name == str(on_cpu.dtype).removeprefix("torch.")
        assert on_cpu.tolist() == [0, 200]
        assert tokens_to_device(ids, torch.device("meta")).dtype == elsewhere
