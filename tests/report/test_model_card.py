"""The metadata of the model card, read by the library that defines it."""

import json
from pathlib import Path

import pytest

from tests.conftest import make_text
from tests.report.conftest import make_project
from tests.small_project import run

huggingface_hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: cards were not read")


def test_the_card_has_the_metadata_of_the_model_hub(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(make_text())
    name = 'a: "b" #{c}\n---\n水 <x>'
    provenance = json.loads(Path("data/raw/corpus.json").read_text()) | {
        "name": name,
        "requested": name,
        "licence": "- [x]: y",
    }
    Path("data/raw/corpus.json").write_text(json.dumps(provenance))
    run("report")
    data = huggingface_hub.ModelCard(Path("reports/model_card.md").read_text()).data
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert (data.license, data.license_name) == ("other", "- [x]: y")
    assert data.model_name == f"gpt on {name}"
    assert "- download.sources: {'*': 1.0}" in Path("reports/model_card.md").read_text()
    metrics = json.loads(Path("reports/metrics.json").read_text())
    results = {result.metric_type: result.metric_value for result in data.eval_results}
    names = ("val_loss", "sliding_val_loss", "adaptive_val_loss", "short_block_val_loss")
    assert results == {name: metrics[name] for name in names}
    assert {(result.dataset_name, result.metric_name) for result in data.eval_results} == {(name, "nats per character")}
