"""The command that lists and runs the benchmarks, and the files that they write."""

import json
from functools import partial
from math import log

import pandas as pd
import pytest
import torch
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import bigram, compression, results

HELPERS = {"__init__", "__main__", "results", "compression", "peer", "texts", "training_inputs"}


def test_every_benchmark_is_listed_with_what_it_measures():
    assert {*command.NAMES} == {path.stem for path in results.FOLDER.glob("*.py")} - HELPERS
    lines = CliRunner().invoke(command.main).output.splitlines()
    assert [line.split()[0] for line in lines] == [*command.NAMES]
    assert all(len(line.split()) > 3 for line in lines)


def test_nothing_is_measured_while_other_programs_run(monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (3.0, 0.0, 0.0))
    result = CliRunner().invoke(command.main, ["report"])
    assert result.exit_code == 1
    assert "the load average of the last minute is 3.00" in result.output


def test_a_program_that_does_not_compress_needs_eight_bits_per_byte():
    train, val = b"one two three " * 20, b"three two one " * 5
    nats = {
        name: compression.conditional_nats(compress, train, val)
        for name, compress in {
            "none": partial(compression.command_size, "cp {input} {output}"),
            "xz": compression.xz_size,
            "bzip2": compression.bzip2_size,
        }.items()
    }
    assert nats.pop("none") == pytest.approx(8 * log(2))
    assert all(0 < loss < 4 for loss in nats.values()), nats


def test_zpaq_gets_inputs_between_the_same_two_powers_of_two(monkeypatch):
    sizes: list[int] = []
    monkeypatch.setattr(compression, "zpaq_size", lambda content: sizes.append(len(content)) or 0)
    compression.conditional_nats(compression.zpaq_size, b"a" * 1000, b"b" * 200)
    assert sizes == [1224, 1024]


def test_results_are_written_as_json_and_as_the_table_made_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr("os.getloadavg", lambda: (0.25, 0.0, 0.0))
    table = pd.DataFrame([{"what": "train", "s": 1.5}])
    markdown = results.write_results("some", results.read_conditions(), table, formats={"s": "{:.2f}"})
    written = json.loads((tmp_path / "some.json").read_text())
    assert written["tables"] == [[{"what": "train", "s": 1.5}]]
    assert written["conditions"]["load average before"] == 0.25
    assert (tmp_path / "some.md").read_text() == markdown + "\n"
    assert "| train  | 1.50 |" in markdown
    assert "load average before 0.25" in markdown


def test_the_long_run_of_the_bigram_table_takes_the_steps_of_automatic_differentiation():
    torch.manual_seed(1)
    text = torch.randint(5, (300,))
    table = torch.randn(5, 5)
    weight = torch.nn.Parameter(table.clone())
    optimizer = torch.optim.AdamW([weight], lr=bigram.LR)
    state = torch.get_rng_state()
    for _, (_, loss) in zip(range(20), bigram.train(table, bigram.pair_counts(text, 5)), strict=False):
        assert loss is not None
    torch.set_rng_state(state)
    starts = torch.randint(len(text) - 9, (bigram.AT_ONCE, bigram.BATCH_SIZE))[:20]
    for start in starts:
        positions = start[:, None] + torch.arange(8)
        expected = torch.nn.functional.cross_entropy(
            weight[text[positions]].flatten(0, 1), text[positions + 1].flatten()
        )
        optimizer.zero_grad()
        expected.backward()
        optimizer.step()
    assert loss == pytest.approx(expected.item(), abs=1e-5)
    torch.testing.assert_close(table, weight.detach(), atol=1e-5, rtol=1e-5)
