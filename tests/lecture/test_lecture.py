"""The lecture's notebook: its code gives the numbers of the lecture, and its text names only what there is."""

import json
import re
from pathlib import Path
from typing import Any

import jupytext  # type: ignore[import-untyped]
import matplotlib as mpl
import pytest

from stages.cli import COMMANDS
from stages.models.registry import MODELS
from tests.conftest import MIRROR
from tests.import_graph import ROOT, file_of

SOURCE, NOTEBOOK = ROOT / "lecture/lecture.py", ROOT / "lecture/lecture.ipynb"


def cells(path: Path) -> list[tuple[str, str]]:
    """Return the kind and the source of each cell."""
    return [(cell.cell_type, cell.source) for cell in jupytext.read(path).cells]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run the notebook's code with fewer steps and return its variables."""
    if not MIRROR.exists():
        pytest.skip("tinyshakespeare is not in FOLIO_MIRROR: the lecture's numbers were not made")
    folder = tmp_path_factory.mktemp("lecture")
    (folder / "data/raw").mkdir(parents=True)
    (folder / "params.yaml").touch()
    (folder / "data/raw/corpus.txt").write_bytes(MIRROR.read_bytes())
    code = "\n".join(source for kind, source in cells(SOURCE) if kind == "code")
    code, count = re.subn(r"^STEPS = .*$", "STEPS = (1_000,)", code, flags=re.MULTILINE)
    assert count == 1
    code = code.replace("steps=2_000", "steps=100")
    variables: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch, mpl.rc_context({"backend": "agg"}):
        patch.chdir(folder)
        exec(compile(code, str(SOURCE), "exec"), variables)
    return variables


def approx(values: list[float]) -> object:
    return pytest.approx(values, abs=5e-5)


def test_the_numbers_are_those_that_the_text_explains(results):
    assert (len(results["text"]), results["vocab_size"]) == (1115394, 65)
    assert results["data"][:15].tolist() == [18, 47, 56, 57, 58, 1, 15, 47, 58, 47, 64, 43, 52, 10, 0]
    assert results["logits"][0, 0, :3].tolist() == approx([-0.1324, -0.5489, 0.1024])
    assert results["initial_loss"].item() == approx(4.8948)
    assert results["loss_at"][1000] == approx(4.1940)
    assert results["sample_before"].startswith("SKIcLT;AcELMoTbvZv C?nq-QE33")
    assert results["xbow"][0, -1].tolist() == approx([-0.0341, 0.1332])
    assert (results["averaging"] @ results["b"])[-1].tolist() == approx([4.6667, 5.3333])
    assert results["wei"][0, -1].tolist() == approx([0.0210, 0.0843, 0.0555, 0.2297, 0.0573, 0.0709, 0.2423, 0.2391])
    assert results["unscaled"].var().item() == pytest.approx(16, rel=0.25)
    assert results["scaled"].var().item() == pytest.approx(1, rel=0.25)
    assert results["smooth"].notna().sum() == 901


def test_the_table_of_the_long_run_has_the_figures_of_the_benchmark():
    (table,) = json.loads((ROOT / "benchmarks/bigram.json").read_text())["tables"]
    shown = re.findall(r"^# \| ([\d,]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", SOURCE.read_text(), re.MULTILINE)
    assert [(f"{row.pop('steps'):,}", *(f"{value:.4f}" for value in row.values())) for row in table] == shown


def test_the_three_ways_to_average_and_both_ways_to_attend_agree(results):
    assert results["xbow2"].allclose(results["xbow"], atol=1e-6)
    assert results["xbow3"].allclose(results["xbow"], atol=1e-6)
    assert results["ours"].allclose(results["out"], atol=1e-5)
    assert results["row_weights"].allclose(results["wei"][0, 7])


def test_the_notebook_has_the_cells_of_its_source_and_was_run_in_order():
    assert cells(NOTEBOOK) == cells(SOURCE)
    notebook = json.loads(NOTEBOOK.read_text())
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = json.dumps([cell["outputs"] for cell in code])
    for number in ("-0.13236576", "4.8948426", "2.6720199", "2.3792998", "0.2297", "0.2391", "image/png"):
        assert number in outputs
    assert '"output_type": "error"' not in outputs
    assert str(ROOT) not in NOTEBOOK.read_text()


def test_every_path_command_and_model_in_the_text_exists():
    text = "\n".join(source for kind, source in cells(SOURCE) if kind == "markdown")
    paths = re.findall(r"`((?:stages|data|docs)/[^`]*)`", text)
    assert len(paths) >= 4
    assert all((ROOT / path).exists() for path in paths)
    assert set(re.findall(r"`folio (\w+)", text)) <= set(COMMANDS)
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [
        kind for kind in MODELS if kind not in ("gpt", "kneser_ney")
    ]
    imported = re.findall(r"^from (stages[\w.]+) import", SOURCE.read_text(), re.MULTILINE)
    assert all(file_of(module) for module in imported)


def test_every_question_that_the_lecture_leaves_open_is_answered():
    text = "\n".join(source for kind, source in cells(SOURCE) if kind == "markdown").replace("\n", " ")
    questions = [
        "SGD", "number of embeddings", "before the early exit", "loss ignored", "run again", "biases", "multiplied by",
        "Three linear layers", "linear layer to head_size", "32 channels", "mask", "dim = −1", "convolution",
        "don't get it", "Characters or subwords", "one more character", "examples of a batch",
        "Batch size or block size",
    ]  # fmt: skip
    headings = re.findall(r"\*\*([^*]*\?)\*\*", text)
    missing = [question for question in questions if not any(question in heading for heading in headings)]
    assert not missing
