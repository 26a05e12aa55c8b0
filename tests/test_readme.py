"""What the documents show can be run, and somebody runs it."""

import re
import sys
from pathlib import Path

import pytest

from tests.readme import COMMAND_LANGUAGES, ROOT, TAGS, blocks, run

README = blocks((ROOT / "README.md").read_text())
RUNNERS = {"setup": ".ci/run", "tests": ".ci/run", "CI": ".ci/run", "long": "CONTRIBUTING.md"}


def test_every_command_has_a_tag_and_every_other_block_is_marked_as_text():
    for block in README:
        if block.language in COMMAND_LANGUAGES:
            assert block.tag in TAGS, f"README.md, line {block.line}: a command without a tag"
        else:
            assert block.language in ("text", "yaml"), f"README.md, line {block.line}: neither command nor text"


@pytest.mark.parametrize("tag", RUNNERS)
def test_every_tag_has_a_runner(tag):
    assert f"readme.py {tag}" in (ROOT / RUNNERS[tag]).read_text()


@pytest.mark.parametrize("block", [block for block in README if block.tag == "quick"], ids=lambda block: block.line)
def test_quick_commands_run(block, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    run(block, capture_output=True, timeout=60)


def test_there_is_one_setup_and_one_test_command_each_on_the_first_screen():
    for tag in ("setup", "tests"):
        (block,) = [block for block in README if block.tag == tag]
        assert block.line < 40
        assert block.text.count("\n") == 1


@pytest.mark.parametrize("path", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"
