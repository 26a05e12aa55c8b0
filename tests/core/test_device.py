import pytest
import torch

from stages.core.device import ComputeParams, gpu_was_given, prepare, why_no_cuda
from stages.core.errors import ParameterError

AUTO = ComputeParams(device="auto", threads=1, deterministic=True, precision="auto")
without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here: its absence was not tested")


@without_cuda
def test_a_device_that_is_not_there_is_refused_with_torch_s_reason():
    with pytest.raises(ParameterError, match=r"compute.device is 'cuda'.*(not compiled with CUDA|NVIDIA driver)"):
        prepare(AUTO.model_copy(update={"device": "cuda"}))
    assert "\n" not in why_no_cuda()


@without_cuda
@pytest.mark.parametrize(("value", "said"), [("all", True), ("0", True), ("void", False), ("none", False), ("", False)])
def test_a_gpu_that_was_given_and_is_not_there_is_said(value: str, said: bool, monkeypatch, caplog):
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", value)
    assert gpu_was_given() is said
    assert prepare(AUTO).type in ("cpu", "mps")
    assert ("working on the CPU" in caplog.text) is said
