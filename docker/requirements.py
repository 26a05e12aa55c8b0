"""Print what the image installs before the code: the dependencies of pyproject.toml and of the given extras."""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path


def requirements_of_extra(name: str, extras: dict[str, list[str]]) -> Iterator[str]:
    """Yield the requirements of an extra, including those of extras that it contains."""
    if name not in extras:
        sys.exit(f"EXTRAS contains '{name}', but the extras are: {', '.join(extras)}")
    for requirement in extras[name]:
        nested = re.fullmatch(r"folio\[(.*)\]", requirement)
        if nested:
            for other in nested[1].split(","):
                yield from requirements_of_extra(other, extras)
        else:
            yield requirement


project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
names = [name for name in sys.argv[1].split(",") if name]
extra_requirements = [line for name in names for line in requirements_of_extra(name, project["optional-dependencies"])]
print("setuptools>=77", *project["dependencies"], *extra_requirements, sep="\n")
