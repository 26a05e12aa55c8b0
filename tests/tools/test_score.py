import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from stages.cli import folio
from stages.core.records import TrainingRecord
from stages.models.base import build_model
from stages.models.model_folder import save_model
from stages.tokenizers.char import CharTokenizer
from tests.conftest import model_params
from tests.import_graph import ROOT
from tests.small_project import run


@pytest.fixture
def small_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Save a bigram model of a, b and π, without line breaks, in the working directory."""
    monkeypatch.chdir(tmp_path)
    model = build_model(model_params(kind="bigram"), 3)
    save_model(tmp_path / "models", model, CharTokenizer.from_text("abπ"), TrainingRecord())


@pytest.mark.skipif(torch.cuda.is_available(), reason="with CUDA this is no mistake")
def test_a_device_that_is_missing_is_named_in_one_line(small_model):
    Path("text.txt").write_text("abba")
    result = run("score", "text.txt", "--device", "cuda", fails=2)
    assert "cuda" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "abπb"), ("cp1252", r"ab\u03c0b")],  # Click writes UTF-8 if the encoding is ASCII
)
def test_any_encoding_of_the_terminal_will_do(small_model, encoding, shown):
    done = subprocess.run(
        [sys.executable, "-m", "stages.cli", "sample", "--prompt-file", "-", "--max-new-tokens", "9"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}, input="abπb".encode(),
        capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.decode().startswith(shown)


def test_a_text_can_come_from_standard_input(small_model):
    done = CliRunner().invoke(folio, ["score", "-", "--json"], input="abπb".encode())
    assert json.loads(done.stdout)["characters"] == 3


def test_input_that_is_not_utf_8_is_named(small_model):
    result = CliRunner().invoke(folio, ["score", "-"], input=b"ab\xe9b")
    assert result.exit_code == 2
    assert "standard input is not UTF-8: byte 2 (line 1) is 0xe9" in result.stderr


def test_unknown_characters_are_counted_and_named_with_the_file(small_model):
    Path("text.txt").write_text("abcabd")
    assert "text.txt: unknown characters: 'c'" in run("score", "text.txt", fails=2).stderr
    result = run("score", "text.txt", "--unknown", "skip", "--json")
    assert "2 of 6 characters are outside the vocabulary" in result.stderr
    scored = json.loads(result.stdout)
    assert (scored["characters"], scored["unknown_characters"]) == (3, 2)


def test_json_has_letters_as_they_are(small_model):
    lines = run("sample", "--prompt", "π", "--max-new-tokens", "2", "--num-samples", "1", "--json").stdout
    assert '"text": "π' in lines
