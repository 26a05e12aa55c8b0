"""The command line: help for everything, nothing imported before it is needed, errors as one line."""

import errno
import logging
import subprocess
import sys
from importlib import import_module

import click
import pytest
from click.testing import CliRunner

from stages.cli import COMMANDS, folio
from stages.core.errors import InputError, TextError, WorkError
from stages.core.options import StageCommand


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_and_every_option_is_explained(name):
    command = import_module(COMMANDS[name][0]).command
    assert command.name == name
    assert "Example:" in (command.help or "")
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    result = CliRunner().invoke(folio, [name, "--help"])
    assert result.exit_code == 0


def test_the_group_lists_every_command_and_imports_none():
    code = "import sys; from stages.cli import folio; folio(['--help'], standalone_mode=False); print(*sys.modules)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(name in shown for name in COMMANDS)
    modules = shown.split()
    assert "torch" not in modules
    assert not {module for module, _ in COMMANDS.values()} & set(modules)


def test_an_unknown_command_is_refused():
    result = CliRunner().invoke(folio, ["trian"])
    assert result.exit_code == 2
    assert "trian" in result.stderr


@pytest.mark.parametrize(
    ("error", "exit_code", "line"),
    [
        (TextError("the text is wrong"), 2, "Error: the text is wrong"),
        (InputError("so is this"), 2, "Error: so is this"),
        (WorkError("it failed"), 1, "Error: it failed"),
        (OSError(errno.ENOSPC, "No space left on device", "models/x"), 1, "Error: No space left on device: models/x"),
        (OSError(errno.EROFS, "Read-only file system"), 1, "Error: Read-only file system: while writing"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(error, exit_code, line):
    @click.command(cls=StageCommand)
    def fails() -> None:
        raise error

    result = CliRunner().invoke(fails)
    assert result.exit_code == exit_code
    assert result.stderr.strip() == line


def test_our_own_bugs_keep_their_traceback():
    @click.command(cls=StageCommand)
    def fails() -> None:
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(fails).exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (["train", "--model", "../models"], "../models"),
        (["train", "--curve", "/tmp/curve.tsv"], "/tmp/curve.tsv"),
        (["tokenize", "--tokens", "a/../../b"], "a/../../b"),
        (["download", "--corpus", "../x.txt"], "../x.txt"),
        (["evaluate", "--metrics", "../m.json"], "../m.json"),
        (["sample", "--output", "../s.txt"], "../s.txt"),
    ],
)
def test_output_stays_inside_the_project(tmp_path, monkeypatch, words, path):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(folio, words)
    assert result.exit_code == 2
    assert f"'{path}' is outside the project folder" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("option", "levels"), [("-q", []), ("-v", ["INFO", "DEBUG"])])
def test_quiet_logs_nothing_and_verbose_logs_the_duration(option, levels, monkeypatch, tmp_path, request):
    from stages.core import logs

    monkeypatch.chdir(tmp_path)
    request.addfinalizer(lambda: logs.log.setLevel(logging.INFO))

    @click.command(cls=StageCommand)
    def work() -> None:
        logs.start_log("work")
        logs.log.info("worked")

    assert CliRunner().invoke(work, [option]).exit_code == 0
    lines = (tmp_path / "logs/work.log").read_text().splitlines()
    assert [line.split()[2] for line in lines] == levels
    assert not levels or "took" in lines[-1]
