"""The locked requirements fit pyproject.toml, and every file is pinned by its hash."""

import re
import tomllib

import pytest

from tests.import_graph import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"cpu": "bpe", "cuda": "bpe", "test": "test"}
# A requirement and its hashes, as pip reads them.
PINNED = re.compile(r"([a-z0-9-]+)==([^ ;]+)( ; [^\\]+)? \\\n(    --hash=sha256:[0-9a-f]{64}( \\\n|\n|$))+")


def requirements_of_extra(name: str) -> list[str]:
    """Return the requirements of an extra, with those of the extras in it."""
    found = []
    for requirement in PROJECT["optional-dependencies"][name]:
        nested = re.fullmatch(r"folio-lm\[(.*)\]", requirement)
        found += (
            [r for other in nested[1].split(",") for r in requirements_of_extra(other)] if nested else [requirement]
        )
    return found


def read_locked(variant: str) -> dict[str, str]:
    """Return the version of each package."""
    return {match[1]: match[2] for match in PINNED.finditer((ROOT / f"requirements/{variant}.txt").read_text())}


@pytest.mark.parametrize("variant", EXTRAS)
def test_a_lock_has_the_versions_of_pyproject(variant):
    locked = read_locked(variant)
    for requirement in PROJECT["dependencies"] + requirements_of_extra(EXTRAS[variant]):
        name, version = requirement.split("==")
        wanted = f"{version}+cpu" if name == "torch" and variant != "cuda" else version
        assert locked.get(name.lower().replace(".", "-")) == wanted, requirement
    assert len(locked) > len(PROJECT["dependencies"]) + 50  # what they need, as well
    assert ("nvidia-cudnn-cu13" in locked) == (variant == "cuda")


@pytest.mark.parametrize("variant", [*EXTRAS, "sbom"])
def test_every_file_has_a_hash_and_none_an_address(variant):
    content = (ROOT / f"requirements/{variant}.txt").read_text()
    without_comments = re.sub(r"^#.*\n", "", content, flags=re.MULTILINE)
    assert PINNED.sub("", without_comments).strip() == ""
    assert "://" not in content
