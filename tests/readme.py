"""Run the commands of the documents that have a tag, in order: `python tests/readme.py CI`.

The tag after the language of a fenced block says how its commands are run: `quick` by the default tests, `CI` by
.ci/run in a new clone, `long` by this script on request, `guide` by the pipeline tests, `GPU` by hand on a machine
with one. `setup` and `tests` are the two commands at the top of the README.
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "benchmarks/README.md")
TAGS = ("setup", "tests", "quick", "CI", "long", "guide", "GPU")
COMMAND_LANGUAGES = ("sh", "python")


@dataclass(frozen=True)
class Block:
    """A fenced block: its document, its line, its language, its tag if it has one, and its text."""

    document: Path
    line: int
    language: str
    tag: str | None
    text: str

    @property
    def place(self) -> str:
        """Return where the block is."""
        return f"{self.document.relative_to(ROOT)}, line {self.line}"


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a Markdown file."""
    text = document.read_text()
    found = []
    for match in re.finditer(r"^```(\w*) ?(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(document, line, match[1], match[2] or None, match[3]))
    return found


def run(block: Block, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a block in the working directory; it fails if any of its commands fails."""
    program = ["bash", "-euo", "pipefail", "-c"] if block.language == "sh" else [sys.executable, "-c"]
    return subprocess.run([*program, block.text], text=True, check=True, **options)  # type: ignore[call-overload, no-any-return]


def main(tag: str) -> None:
    """Run every block with a tag."""
    chosen = [block for document in DOCUMENTS for block in blocks(document) if block.tag == tag]
    if not chosen:
        sys.exit(f"no document has a block tagged {tag!r}; the tags are {', '.join(TAGS)}")
    for block in chosen:
        print(f"== {block.place}\n{block.text}", flush=True)
        run(block)


if __name__ == "__main__":
    main(sys.argv[1])
