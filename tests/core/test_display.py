import logging

import click
import pytest
from click.testing import CliRunner

from stages.core.display import escape_controls, hide_secrets, printable
from stages.core.errors import ParameterError
from stages.core.logs import start_log
from stages.core.options import FolioCommand


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ä, 水, 😀\ttab\nline\r\n", "plain, ä, 水, 😀\ttab\nline\r\n"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("\x9b31m, \x00, \x08, \x7f", r"\x9b31m, \x00, \x08, \x7f"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(text: str, shown: str):
    assert escape_controls(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://example.org/a.txt", "https://example.org/a.txt"),
        ("https://user:pa55@example.org/a.txt: 401", "https://example.org/a.txt: 401"),
        (
            "401 for url: https://user:p@ss@example.org/a?token=1&x=2, then",
            "401 for url: https://example.org/a?…, then",
        ),
        ("s3://key:secret@bucket/a", "s3://bucket/a"),
        ("(http://example.org/?sig=abc)", "(http://example.org/?…)"),
        ("who? me@example.org", "who? me@example.org"),
        ("/home/a@b/c?d", "/home/a@b/c?d"),
    ],
)
def test_addresses_are_shown_without_secrets(text: str, shown: str):
    assert hide_secrets(text) == shown


def test_messages_and_logs_are_printable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").touch()

    @click.command(cls=FolioCommand)
    @click.argument("path", type=click.Path(exists=True))
    def command(path: str) -> None:
        start_log("test")
        logging.getLogger("folio").warning("read %s", "\x1b[2J https://me:pw@example.org/?key=1")
        raise ParameterError(f"{path}\x1b[2J")

    unknown = CliRunner().invoke(command, ["\x1b[2Jmissing"])
    assert r"\x1b[2Jmissing" in unknown.output
    (tmp_path / "file").touch()
    failed = CliRunner().invoke(command, ["file"])
    assert failed.exit_code == 2
    for shown in (failed.output, (tmp_path / "logs/test.log").read_text()):
        assert "\x1b" not in shown
        assert "pw" not in shown
        assert "key" not in shown
    assert printable("\x1b https://a:b@c/") == r"\x1b https://c/"


def test_names_of_files_that_are_not_utf_8_are_shown():
    assert printable("caf\udce9.txt") == r"caf\udce9.txt"
