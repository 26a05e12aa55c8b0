"""Whoever follows the advice of a message once does not get another message."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_text
from tests.small_project import run, set_params

Changes = dict[str, dict[str, Any]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/corpus.txt").write_text(make_text(400))
    return tmp_path


def follow(pattern: str, message: str) -> tuple[str, ...]:
    """Return what a message says to set, to which value."""
    match = re.search(pattern, message)
    assert match, message
    return match.groups()


def held_out(block_size: int, fraction: float, val_fraction: float) -> Changes:
    """Return a run that holds out a part of the training text."""
    return {
        "model": {"block_size": block_size},
        "train": {"held_out_fraction": fraction, "keep": "best", "max_steps": 2},
        "tokenize": {"val_fraction": val_fraction},
    }


# A mistake, the stages that it is made with, the advice, and what somebody does who follows it.
CASES: dict[str, tuple[Changes, list[str], str, Callable[..., Changes]]] = {
    "block_size": (
        {"model": {"block_size": 5000}},
        ["train"],
        r"model\.block_size is 5000, .*; set it to (\d+) or less",
        lambda size: {"model": {"block_size": int(size)}},
    ),
    "held_out_fraction of a long block": (
        held_out(350, 0.01, 0.8),
        ["train"],
        r"train\.held_out_fraction is 0\.01.* set model\.block_size to (\d+) or less",
        lambda size: held_out(int(size), 0.01, 0.8),
    ),
    "block_size with a small validation part": (
        {"model": {"block_size": 500}, "tokenize": {"val_fraction": 0.01}},
        ["train"],
        r"model\.block_size is 500, .*; set it to (\d+) or less",
        lambda size: {"model": {"block_size": int(size)}, "tokenize": {"val_fraction": 0.01}},
    ),
    "held_out_fraction": (
        held_out(140, 0.45, 0.85),
        ["train"],
        r"train\.held_out_fraction is 0\.45.* set model\.block_size to (\d+) or less",
        lambda size: held_out(int(size), 0.45, 0.85),
    ),
    "window_size": (
        {"train": {"window_size": 100}},
        ["train"],
        r"train\.window_size is 100: it must be at most model\.block_size, (\d+)",
        lambda size: {"train": {"window_size": int(size)}},
    ),
    "window_size of another model": (
        {"model": {"kind": "head"}, "train": {"window_size": 16}},
        ["train"],
        r"train\.window_size is 16.*; set train\.window_size to (\d+)",
        lambda size: {"model": {"kind": "head"}, "train": {"window_size": int(size)}},
    ),
    "stride": (
        {"evaluate": {"stride": 99}},
        ["train", "evaluate"],
        r"evaluate\.stride is 99: it must be at most model\.block_size, (\d+)",
        lambda size: {"evaluate": {"stride": int(size)}},
    ),
    "a renamed key": (
        {"sample": {"length": 10}},
        ["train"],
        r"sample\.length is now sample\.(\w+); rename it",
        lambda new: {"sample": {new: 10}},
    ),
    "the kind of a tokenizer": (
        {"tokenize": {"tokenizer": "data/tokens/tokenizer.json", "kind": "byte"}},
        ["tokenize"],
        r"tokenize\.kind is 'byte'; set tokenize\.kind: (\w+)",
        lambda kind: {"tokenize": {"tokenizer": "data/tokens/tokenizer.json", "kind": kind}},
    ),
    "a prompt": (
        {"sample": {"prompt": "the 7"}},
        ["tokenize"],
        r"unknown character '(\d)'",
        lambda character: {"sample": {"prompt": "the 7".replace(character, "")}},
    ),
    "heads": (
        {"model": {"n_embd": 17, "n_head": 2}},
        ["train"],
        r"n_embd is 17 and n_head is (\d): n_embd must be a multiple",
        lambda heads: {"model": {"n_embd": 16 * int(heads), "n_head": int(heads)}},
    ),
    "a model": (
        {"model": {"kind": "lstm"}},
        ["train"],
        r"'lstm' is not a model; set it to one of: ([\w, ]+)",
        lambda kinds: {"model": {"kind": kinds.split(", ")[-1]}},
    ),
    "processes": (
        {"train": {"processes": 3, "batch_size": 4}},
        ["train --dry-run"],
        r"train\.batch_size is 4 .*; make one of them a multiple of (\d)",
        lambda count: {"train": {"processes": 3, "batch_size": 2 * int(count)}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_advice_about_a_parameter_works(project, name):
    wrong, stages, pattern, change = CASES[name]
    set_params()
    run("tokenize")
    set_params(**wrong)
    if "tokenize" in wrong and stages != ["tokenize"]:
        run("tokenize")
    for stage in stages[:-1]:
        run(stage)
    advice = follow(pattern, run(*stages[-1].split(), fails=2).stderr)
    set_params(**change(*advice))
    for stage in stages:
        run(*stage.split())


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("latin1", "café\n" * 300), ("utf-16", "café\n" * 300), ("utf-16-le", "cafe\n" * 300), ("utf-32", "café\n" * 300)],
)
def test_the_command_that_converts_a_text_works(project, encoding, text):
    if not shutil.which("iconv"):
        pytest.skip("there is no iconv")
    Path("data/own").mkdir()
    path = Path("data/own/my text's.txt")
    path.write_bytes(text.encode(encoding))
    set_params(download={"corpus": "own"})
    (command,) = follow(r"convert it[^`]*`(mv [^`]+)`", run("download", fails=2).stderr)
    subprocess.run(["sh", "-c", command], check=True)
    run("download")
    assert path.with_name(path.name + ".original").read_bytes() == text.encode(encoding)
    assert Path("data/raw/corpus.txt").read_text().removeprefix("\ufeff") == text


def test_the_command_that_removes_zeros_works(project):
    Path("data/own").mkdir()
    path = Path("data/own/text.txt")
    path.write_bytes(b"some text\n" * 300 + b"\0")
    set_params(download={"corpus": "own"})
    (command,) = follow(r"`(tr [^`]+)`", run("download", fails=2).stderr)
    subprocess.run(["sh", "-c", command.replace("FILE", str(path)).replace("NEW", "new.txt")], check=True)
    Path("new.txt").replace(path)
    run("download")


def test_a_column_that_is_named_can_be_set(project):
    Path("data/own").mkdir()
    Path("data/own/rows.jsonl").write_text('{"body": "some text of its own"}\n' * 3)
    set_params(download={"corpus": "own"})
    (column,) = follow(r"it has: (\w+)\); set download\.column", run("download", fails=2).stderr)
    set_params(download={"corpus": "own", "column": column})
    run("download")
