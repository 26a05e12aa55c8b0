"""Print what the image installs before the code: what pyproject.toml depends on, and of the extras that are named."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path


def of_extra(name: str, extras: dict[str, list[str]]) -> Iterator[str]:
    """Give what an extra needs; one that stands in another is opened."""
    if name not in extras:
        sys.exit(f"EXTRAS names '{name}'; there are: {', '.join(extras)}")
    for each in extras[name]:
        inner = re.fullmatch(r"folio\[(.*)\]", each)
        if inner:
            for other in inner[1].split(","):
                yield from of_extra(other, extras)
        else:
            yield each


project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
chosen = [name for name in sys.argv[1].split(",") if name]
needed = [each for name in chosen for each in of_extra(name, project["optional-dependencies"])]
print("setuptools>=77", *project["dependencies"], *needed, sep="\n")
