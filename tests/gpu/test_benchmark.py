"""The benchmark for a GPU runs to its end on the CPU and on the stand-in."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.gpu import MEASUREMENTS, main
from tests.conftest import make_text
from tests.gpu.standin import on_standin
from tests.small_project import run, set_params


@pytest.mark.pipeline
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_benchmark_runs_to_its_end(device, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/corpus.txt").write_text(make_text(300))
    set_params(compute={"device": device}, train={"max_steps": 6, "compile": "off"})
    run("tokenize")
    with on_standin() if device == "cuda" else nullcontext():
        result = CliRunner().invoke(main, ["--small", "--output", "gpu.json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    results = json.loads(Path("gpu.json").read_text())
    assert list(results) == list(MEASUREMENTS)
    assert results["equal_bits"] == {"two_runs": True, "resumed": True}
    assert abs(results["cpu_and_gpu"]["difference"]) < 2e-5
    assert results["race_default"]["steps"] == results["race_without_prior"]["steps"] == 4
    assert results["tests"]["exit_code"] == 0
    table = Path("gpu.md").read_text()
    assert "| two runs are bit-identical | yes |" in table
    assert "error" not in table
    assert table.count("\n| ") == 17
