import pytest
import torch

from stages.models.base import build_model
from stages.models.model_folder import save_model
from stages.tokenizers.char import CharTokenizer
from tests.conftest import model_params
from tests.small_project import run


@pytest.mark.skipif(torch.cuda.is_available(), reason="with CUDA this is no mistake")
def test_a_device_that_is_missing_is_named_in_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "models", build_model(model_params(kind="bigram"), 2), CharTokenizer.from_text("ab"), {})
    (tmp_path / "text.txt").write_text("abba")
    result = run("score", "text.txt", "--device", "cuda", fails=2)
    assert "cuda" in result.output
    assert "Traceback" not in result.output
