"""The mutations of tests/mutations.py still apply to the code, and docs/testing.md lists them."""

import pytest

from tests.mutations import DOCUMENT, MUTATIONS, ROOT


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_changes_one_place(name):
    mutation = MUTATIONS[name]
    assert (ROOT / mutation.path).read_text().count(mutation.original) == 1


@pytest.mark.parametrize("name", MUTATIONS)
def test_the_document_names_the_test_that_notices_it(name):
    (row,) = (line for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| {name} |"))
    path, test = row.split("|")[3].strip(" `").split("::")
    assert f"def {test}(" in (ROOT / path).read_text()
