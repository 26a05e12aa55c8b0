"""The commands in the documents are run by something, and the figures are those of the result files."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.readme import COMMAND_LANGUAGES, DOCUMENTS, ROOT, TAGS, blocks, run

BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
README = (ROOT / "README.md").read_text()
RUNNERS = {"setup": ".ci/run", "tests": ".ci/run", "CI": ".ci/run", "long": "CONTRIBUTING.md"}
MARKDOWN = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("[!.]*/README.md"), ROOT / "data/own/README.md"]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.place)
def test_every_command_has_a_tag_and_every_other_block_is_text(block):
    if block.language in COMMAND_LANGUAGES:
        assert block.tag in TAGS, f"{block.place}: a command without a tag"
    else:
        assert block.language in ("text", "yaml"), f"{block.place}: neither a command nor text"


@pytest.mark.parametrize("tag", RUNNERS)
def test_every_tag_has_a_runner(tag):
    assert f"readme.py {tag}" in (ROOT / RUNNERS[tag]).read_text()


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.tag == "quick"], ids=lambda block: block.place)
def test_quick_commands_run(block, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    run(block, capture_output=True, timeout=60)


def test_the_readme_is_short_and_has_one_setup_and_one_test_command_near_the_top():
    assert len(README.splitlines()) <= 150
    for tag in ("setup", "tests"):
        (block,) = (block for block in BLOCKS if block.tag == tag)
        assert block.line < 40
        assert block.text.count("\n") == 1


def links(page: Path) -> list[str]:
    """Return what a document links to, except addresses and its own sections."""
    return re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(path):
    for target in links(path):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


METRICS_IN_README = {
    "short_block_val_loss": r"\(`short_block_val_loss`\) \| \*\*([\d.]+)\*\*",
    "val_loss": r"\(`val_loss`\) \| \*\*([\d.]+)\*\*",
    "kneser_ney_val_loss": r"Kneser–Ney smoothing, in windows of 2,048 \| ([\d.]+)",
}


def test_every_document_is_reached_from_the_readme_in_two_clicks():
    reached = {ROOT / "README.md"}
    for _ in range(2):
        reached |= {(page.parent / link).resolve() for page in reached for link in links(page) if link.endswith(".md")}
    assert {page.resolve() for page in MARKDOWN} <= reached


@pytest.mark.parametrize("metric", METRICS_IN_README)
def test_the_results_in_the_readme_are_those_of_the_reference_run(metric):
    value = json.loads((ROOT / "reports/metrics.json").read_text())[metric]
    match = re.search(METRICS_IN_README[metric], README)
    assert match
    assert match[1] == f"{value:.3f}"


RESULTS = [path for path in (ROOT / "benchmarks").glob("*.md") if path.name not in ("README.md", "gpu.md")]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_the_tables_in_the_benchmarks_readme_are_those_of_the_result_files(path):
    document = (ROOT / "benchmarks/README.md").read_text()
    for table in path.read_text().strip().split("\n\n"):
        assert table in document


def test_docs_gpu_has_the_figures_of_the_benchmark_or_says_that_there_are_none():
    document, results = (ROOT / "docs/gpu.md").read_text(), ROOT / "benchmarks/gpu.md"
    shown = re.search(r"<!-- gpu -->\n(.*?)<!-- end -->", document, re.DOTALL)
    assert shown
    assert shown[1] == results.read_text() if results.exists() else shown[1].startswith("**Nothing yet.**")


def test_docs_metrics_defines_every_metric():
    document = (ROOT / "docs/metrics.md").read_text()
    assert all(f"`{name}`" in document for name in json.loads((ROOT / "reports/metrics.json").read_text()))


def test_docs_models_names_every_model():
    from stages.models.registry import MODELS

    document = (ROOT / "docs/models.md").read_text()
    assert all(f"| `{kind}` |" in document for kind in MODELS)
