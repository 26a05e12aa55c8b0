"""The command line: help for everything, nothing imported before it is needed, errors as one line."""

import errno
import logging
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stages.cli import COMMANDS, folio
from stages.core import logs
from stages.core.errors import InputError, TextError, WorkError
from stages.core.options import KILLED, FolioCommand
from tests.import_graph import ROOT

NO_MEMORY = "not enough memory ({}); close other programs, or reduce a size in params.yaml, such as train.batch_size"


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


def test_only_training_imports_the_compiler():
    modules = ["stages.evaluate.command", "stages.sample.command", "stages.tools.score", "stages.train.setup"]
    code = f"import sys, {', '.join(modules)}; print('torch' in sys.modules, 'torch._dynamo' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


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
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 9), 1, "Error: File name too long: xxxxxxxxx"),
        (MemoryError("Unable to allocate 1 EiB"), 1, f"Error: {NO_MEMORY.format('Unable to allocate 1 EiB')}"),
        (RuntimeError("CUDA out of memory. Tried\nmore"), 1, f"Error: {NO_MEMORY.format('CUDA out of memory. Tried')}"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(error, exit_code, line):
    @click.command(cls=FolioCommand)
    def fails() -> None:
        raise error

    result = CliRunner().invoke(fails)
    assert result.exit_code == exit_code
    assert result.stderr.strip() == line


@pytest.mark.parametrize("bug", [ZeroDivisionError(), RuntimeError("a bug"), OSError(errno.EINVAL, "a bug")])
def test_our_own_bugs_keep_their_traceback(bug):
    @click.command(cls=FolioCommand)
    def fails() -> None:
        raise bug

    assert CliRunner().invoke(fails).exception is bug


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


@pytest.mark.parametrize("words", [("sample", "--output"), ("compare", "HEAD", "--page"), ("tokenize", "--tokens")])
def test_an_empty_output_path_is_refused(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(folio, [*words, ""])
    assert result.exit_code == 2
    assert f"Invalid value for '{words[-1]}': the path is empty; name one, or leave out the option" in result.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a full device")
def test_a_log_on_a_full_disk_is_one_warning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").touch()
    Path("logs").mkdir()
    Path("logs/train.log").symlink_to("/dev/full")
    with logs.console.capture() as shown:
        logs.start_log("train")
        logs.log.info("first")
        logs.log.info("second")
    lines = shown.get()
    assert lines.count("cannot write to") == 1
    assert "No space left on device" in lines
    assert "first" in lines
    assert "second" in lines
    assert "Traceback" not in lines


def test_a_link_does_not_lead_output_outside_the_project(tmp_path, monkeypatch):
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    Path("models").symlink_to(tmp_path)
    Path("inside").symlink_to(".")
    result = CliRunner().invoke(folio, ["train", "--model", "models/x"])
    assert result.exit_code == 2
    assert "'models/x' is outside the project folder" in result.stderr
    assert "outside" not in CliRunner().invoke(folio, ["train", "--model", "inside/x"]).stderr


@pytest.mark.parametrize(
    ("code", "before", "after"), [(0, "", ""), (3, "", "3\n"), (3, "mine", "mine"), (None, "", "1\n")]
)
def test_the_exit_code_is_written_for_a_program_that_hides_it(tmp_path, monkeypatch, code, before, after):
    path = tmp_path / "exit code"
    path.write_text(before)
    monkeypatch.setenv("FOLIO_EXIT_FILE", str(path))

    @click.command(cls=FolioCommand)
    def stage() -> None:
        assert path.read_text() == (before or f"{KILLED}\n")
        sys.exit(code) if code is not None else 1 / 0

    assert CliRunner().invoke(stage).exit_code == (1 if code is None else code)
    assert path.read_text() == after


@pytest.mark.parametrize(("option", "levels"), [("-q", []), ("-v", ["INFO", "DEBUG"])])
def test_quiet_logs_nothing_and_verbose_logs_the_duration(option, levels, monkeypatch, tmp_path, request):
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").touch()
    request.addfinalizer(lambda: logs.log.setLevel(logging.INFO))

    @click.command(cls=FolioCommand)
    def work() -> None:
        logs.start_log("work")
        logs.log.info("worked")

    assert CliRunner().invoke(work, [option]).exit_code == 0
    lines = (tmp_path / "logs/work.log").read_text().splitlines()
    assert [line.split()[2] for line in lines] == levels
    assert not levels or "took" in lines[-1]


def test_outside_a_project_no_log_file_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(folio, ["train"])
    assert "params.yaml does not exist; run this in the project folder" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_problem(tmp_path, closed):
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m stages.cli tokenize {closed}"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout
    assert ("params.yaml does not exist" in done.stderr) is ("2>&-" not in closed)


def test_an_interruption_while_pytorch_is_imported_is_one_line(monkeypatch):
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stages.cli.import_module", interrupt)
    result = CliRunner().invoke(folio, ["train"])
    assert result.exit_code == 130
    assert result.stderr == "interrupted\n"
