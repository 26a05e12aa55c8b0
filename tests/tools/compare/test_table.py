import math
from dataclasses import replace

import pandas as pd
import pytest

from stages.tools.compare.comparison_page import render_comparison
from stages.tools.compare.runs import Run, flatten
from stages.tools.compare.table import compare_runs


def run(name: str, seed: int, lr: float, loss: float, **machine: object) -> Run:
    curve = pd.DataFrame({"step": [1, 2], "val_loss": [2.0, loss]})
    return Run(name, {"train.seed": seed, "train.lr": lr}, {"val_loss": loss, "parameters": 7}, curve, machine or None)


SEEDS = [
    run("a", 1, 0.1, 1.0),
    run("a2", 2, 0.1, 1.2),
    run("b", 1, 0.2, 1.15),
    run("b2", 2, 0.2, 1.35),
    run("c", 1, 0.3, 2.0),
]


def test_runs_that_differ_in_seeds_share_a_column():
    compared = compare_runs(SEEDS)
    assert list(compared.metrics.columns) == ["a and 1 more", "b and 1 more", "c"]
    assert compared.metrics["a and 1 more"]["val_loss"] == pytest.approx(1.1)
    assert compared.params.loc["train.lr"].tolist() == ["0.1", "0.2", "0.3"]
    assert compared.params.loc["train.seed"].tolist() == ["1, 2", "1, 2", "1"]


def test_differences_below_two_standard_errors_are_marked():
    compared = compare_runs(SEEDS)  # pooled variance of seeds: 0.02
    assert compared.standard_errors["b and 1 more"]["val_loss"] == pytest.approx(math.sqrt(0.02 * (1 / 2 + 1 / 2)))
    assert compared.standard_errors["c"]["val_loss"] == pytest.approx(math.sqrt(0.02 * (1 + 1 / 2)))
    table = compared.formatted_metrics()
    assert table.loc["val_loss"].tolist() == ["1.1000", "1.2500 (+0.1500 ~)", "2 (+0.9000)"]
    assert table.index.tolist() == ["val_loss"]  # the other is the same everywhere


def test_a_mean_of_seeds_comes_with_its_standard_error():
    note = compare_runs(SEEDS).notes[0]
    assert "mean of 2 runs (a, a2): val_loss 1.1000 ± 0.1000" in note  # deviation 0.1414, of two


def test_runs_that_differ_only_in_seeds_are_compared_with_each_other():
    runs = [run("a", 1, 0.1, 1.0), run("b", 2, 0.1, 1.2), run("c", 3, 0.1, 1.8)]  # deviation 0.4163
    compared = compare_runs(runs)
    assert list(compared.metrics.columns) == ["a", "b", "c"]
    assert compared.params.loc["train.seed"].tolist() == ["1", "2", "3"]
    assert compared.standard_errors["b"]["val_loss"] == pytest.approx(0.4163 * 2**0.5, abs=1e-4)
    assert math.isnan(compared.standard_errors["a"]["val_loss"])
    assert "mean of 3 runs (a, b, c): val_loss 1.3333 ± 0.2404" in compared.notes[0]


def test_one_loss_has_no_standard_error():
    without = Run("b", SEEDS[1].params, {"parameters": 7}, None, None)
    assert compare_runs([SEEDS[0], without, SEEDS[4]]).notes[0].endswith("mean of 2 runs (a, b): val_loss 1.0000")


def test_seeds_apart_still_says_what_is_noise():
    compared = compare_runs(SEEDS, group_seeds=False)
    assert compared.standard_errors["a2"]["val_loss"] == pytest.approx(math.sqrt(0.02 * 2))
    assert "mean of 2 runs (b, b2)" in compared.notes[0]


def test_without_seeds_nothing_is_called_chance():
    compared = compare_runs([SEEDS[0], SEEDS[2]])
    assert compared.formatted_metrics().loc["val_loss"].tolist() == ["1", "1.1500 (+0.1500)"]
    assert "one seed each" in compared.notes[0]


def test_the_same_run_twice_is_two_columns():
    again = Run("again", SEEDS[0].params, SEEDS[0].metrics, None, None)
    compared = compare_runs([SEEDS[0], again])
    assert list(compared.metrics.columns) == ["a", "again"]
    assert len(compared.params) == 0
    assert list(compare_runs(SEEDS, group_seeds=False).metrics.columns) == ["a", "a2", "b", "b2", "c"]


def test_different_machines_are_noted():
    notes = compare_runs([run("a", 1, 0.1, 1.0, threads=1), run("b", 1, 0.2, 1.0, threads=2), SEEDS[4]]).notes
    assert "threads differs: a 1, b 2" in notes
    assert any("the machine of c is unknown" in note for note in notes)


def test_json_has_null_for_unknown_values():
    document = compare_runs([SEEDS[0], SEEDS[2]]).as_dict()
    assert document["standard_errors"]["b"]["val_loss"] is None
    assert document["metrics"]["b"]["val_loss"] == 1.15


def test_secrets_and_controls_in_parameters_are_not_shown():
    runs = [run("a", 1, 0.1, 1.0), run("b", 1, 0.1, 1.0)]
    runs[0].params["download.url"], runs[1].params["download.url"] = "https://me:pw@x.org/a?key=1", "a\x1b[2J"
    assert compare_runs(runs).params.loc["download.url"].tolist() == ["https://x.org/a?…", "a\\x1b[2J"]
    runs[1].params["download.url"] = "https://x.org/a?key=2"
    runs[0].params["download.url"] = "https://x.org/a?key=1"
    assert compare_runs(runs).params.loc["download.url"].tolist() == ["https://x.org/a?…"] * 2  # they do differ


def test_the_page_escapes_names():
    page = render_comparison(compare_runs([run("<a>", 1, 0.1, 1.0), SEEDS[2]]), [run("<a>", 1, 0.1, 1.0), SEEDS[2]])
    assert "<a>" not in page
    assert "&lt;a&gt;" in page


def test_nested_sections_become_names():
    assert dict(flatten({"params.yaml": {"train": {"lr": 1, "stop": []}}}, "")) == {
        "params.yaml.train.lr": 1,
        "params.yaml.train.stop": [],
    }


@pytest.mark.parametrize(
    ("key", "first", "second", "note"),
    [
        ("text", "12", "34", "the runs have different texts (a own), so their losses"),
        ("text", "", "12", None),
        (
            "tokenizer",
            "12",
            "34",
            "the runs have different tokenizers: compare val_loss_per_byte",
        ),
        ("tokenizer", "12", "12", None),
    ],
)
def test_losses_that_cannot_be_compared_are_noted(key, first, second, note):
    runs = [run("a", 1, 0.1, 1.0), run("b", 1, 0.1, 0.5)]
    runs[0] = replace(runs[0], text_name="own")  # corpus.json of the other is not available
    runs[0].params[key], runs[1].params[key] = first, second
    notes = compare_runs(runs).notes
    assert notes[0].startswith(note or "one seed each")


def test_numbers_that_are_equal_do_not_differ():
    runs = [run("a", 1, 0.1, 1.0), run("b", 1, 0.1, 1.0)]
    runs[0].params["download.sources.*"], runs[1].params["download.sources.*"] = 1, 1.0
    runs[0].params["train.max_tokens"], runs[1].params["train.max_tokens"] = 1234567, 1234567.0
    runs[0].params["train.lr"], runs[1].params["train.lr"] = 0.12345678, 0.12345681
    assert compare_runs(runs).params.index.tolist() == ["train.lr"]
