"""Run the README's commands of one tag, in order, as a reader would: `python tests/readme.py CI`.

A fenced block of commands says after its language how it is run: `quick` by the default tests, `CI` by .ci/run in a
fresh clone, `long` by this script when somebody asks, `GPU` by hand where there is one. `setup` and `tests` are the two
commands of the first screen, which .ci/run calls by name.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
TAGS = ("setup", "tests", "quick", "CI", "long", "GPU")
COMMAND_LANGUAGES = ("sh", "python")


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, its language, its tag if it has one, and its lines."""

    line: int
    language: str
    tag: str | None
    text: str


def blocks(document: str) -> list[Block]:
    """Find the fenced blocks of a Markdown text."""
    found = []
    for match in re.finditer(r"^```(\w*) ?(\w*)\n(.*?)^```$", document, re.DOTALL | re.MULTILINE):
        line = document.count("\n", 0, match.start()) + 1
        found.append(Block(line, match[1], match[2] or None, match[3]))
    return found


def run(block: Block, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a block in the working directory; it fails where any of its commands fails."""
    program = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
    return subprocess.run([*program, block.text], text=True, check=True, **options)  # type: ignore[call-overload, no-any-return]


def main(tag: str) -> None:
    """Run every block with a tag, showing each before."""
    chosen = [block for block in blocks((ROOT / "README.md").read_text()) if block.tag == tag]
    if not chosen:
        sys.exit(f"README.md has no block tagged {tag!r}; the tags are {', '.join(TAGS)}")
    for block in chosen:
        print(f"== README.md, line {block.line}\n{block.text}", flush=True)
        run(block)


if __name__ == "__main__":
    main(sys.argv[1])
