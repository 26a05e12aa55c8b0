"""The notebook's numbers come out of the procedure: given the notebook's text, and changing with the seed."""

import json
import re
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from stages.cli import folio
from stages.tokenizers.char import CharTokenizer
from stages.tools.lecture import attention_examples
from stages.tools.lecture.command import run_notebook
from stages.tools.lecture.labelled_tables import in_rows, label_table
from stages.tools.lecture.params import LectureParams
from tests.conftest import MIRROR, make_text
from tests.import_graph import ROOT

COMMITTED = ROOT / "reports/lecture.json"


def approx(values: list[float]) -> object:
    return pytest.approx(values, abs=5e-5)


def check_notebook(numbers: dict[str, Any]) -> None:
    assert (numbers["characters"], numbers["vocabulary_size"]) == (1115394, 65)
    assert (numbers["encode_Bee3"], numbers["decode_Bee3"]) == ([14, 43, 43, 9], "Bee3")
    assert "'7'" in numbers["encode_Bee7_error"]
    assert numbers["first_15"] == [18, 47, 56, 57, 58, 1, 15, 47, 58, 47, 64, 43, 52, 10, 0]
    assert numbers["xb"][0] == [53, 59, 6, 1, 58, 56, 47, 40]
    assert len(numbers["pairs"]) == 32
    assert numbers["bigram"]["logits_0_0"] == approx([-0.1324, -0.5489, 0.1024])
    assert numbers["bigram"]["expected_initial_loss"] == pytest.approx(4.1744, abs=5e-5)
    assert numbers["v1"]["xbow_0"][-1] == approx([-0.0341, 0.1332])
    assert numbers["v2_equals_v1"]
    assert numbers["v3_equals_v1"]
    assert numbers["v4"]["weights_0"][-1][:4] == approx([0.0210, 0.0843, 0.0555, 0.2297])
    assert numbers["v4"]["folio_s_attention_gives_the_same"]
    assert (numbers["v4"]["shape_of_weights_at_x"], numbers["v4"]["shape_of_weights_at_v"]) == ([4, 8, 32], [4, 8, 16])
    assert numbers["scaling"]["variance_raw"] == pytest.approx(16, rel=0.25)
    assert numbers["scaling"]["variance_scaled"] == pytest.approx(1, rel=0.25)
    assert numbers["toy"]["averaged"] == [[2.0, 7.0], [4.0, 5.5], approx([4.6667, 5.3333])]


def numbers_of(text: str, **changes) -> dict[str, Any]:
    torch.set_num_threads(1)
    params = LectureParams.model_validate({"seed": 1337, "toy_seed": 42, "steps": [50, 100]} | changes)
    tokenizer = CharTokenizer.from_text(text)
    ids = torch.from_numpy(tokenizer.encode(text)).long()
    cut = int(0.9 * len(ids))
    return run_notebook(text, tokenizer, ids[:cut], ids[cut:], params)[0]


def test_the_committed_numbers_are_the_notebook_s():
    check_notebook(json.loads(COMMITTED.read_text()))


@pytest.mark.skipif(
    not MIRROR.exists(), reason="tinyshakespeare is not in FOLIO_MIRROR: the numbers were not made anew"
)
def test_the_procedure_makes_the_notebooks_numbers():
    made = numbers_of(MIRROR.read_text())
    check_notebook(made)
    committed = json.loads(COMMITTED.read_text())
    assert made["yb"] == committed["yb"]
    assert made["bigram"]["initial_loss"] == pytest.approx(committed["bigram"]["initial_loss"], abs=1e-5)


def test_another_seed_gives_other_numbers():
    first, second = (numbers_of(make_text(), seed=seed, toy_seed=seed) for seed in (1, 2))
    assert first["characters"] == second["characters"]
    for path in (["xb"], ["bigram", "logits_0_0"], ["v1", "x_0"], ["v4", "weights_0"], ["scaling"], ["toy", "b"]):
        one, other = first, second
        for name in path:
            one, other = one[name], other[name]
        assert one != other, path


def test_writing_before_training_does_not_disturb_it(monkeypatch):
    with_sample = numbers_of(make_text())
    monkeypatch.setattr("stages.tools.lecture.bigram_training.sample_text", lambda *_: "")
    assert numbers_of(make_text())["bigram"]["loss_by_steps"] == with_sample["bigram"]["loss_by_steps"]


def test_shapes_say_what_torch_does():
    shapes = attention_examples.shapes(torch.arange(12))
    assert shapes["view_shares_memory"]
    assert "view size is not compatible" in shapes["view_of_transpose_refused"]
    assert shapes["reshape_of_transpose"] == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert shapes["squeeze_of_1_12_1"] == [12]


def test_a_last_row_that_is_not_full_is_padded_not_dropped():
    frame = in_rows(range(5), 3)
    assert frame.to_numpy().tolist() == [[0, 1, 2], [3, 4, ""]]
    assert in_rows(range(6), 3).shape == (2, 3)


def test_a_decoded_row_stands_under_each_row():
    table = label_table("letters", in_rows([0, 1, 2], 2), "abc".__getitem__)
    assert table.label == "letters"
    assert table.frame.to_numpy().tolist() == [[0, 1], ["'a'", "'b'"], [2, ""], ["'c'", ""]]
    assert label_table("plain", pd.DataFrame([[1]])).frame.to_numpy().tolist() == [[1]]


def test_the_command_writes_numbers_tables_pictures_and_one_page_without_requests(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    params = re.sub(r"steps: \[.*?\]", "steps: [20]", (ROOT / "params.yaml").read_text())
    (tmp_path / "params.yaml").write_text(params)
    (tmp_path / "corpus.txt").write_text(make_text())
    result = CliRunner().invoke(folio, ["lecture", "--corpus", "corpus.txt"])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "reports/lecture/index.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#|data:)[^"]*', page)
    assert page.count("<svg") == 4
    written = {path.suffix for path in (tmp_path / "reports/lecture").iterdir()}
    assert written == {".html", ".csv", ".svg"}
    assert json.loads((tmp_path / "reports/lecture.json").read_text())["bigram"]["loss_by_steps"].keys() == {"20"}
