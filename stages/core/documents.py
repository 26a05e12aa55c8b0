"""A text of any size onto the disk, and what is known of it afterwards."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core import files
from stages.core.errors import TextError

# Of a document: the character that it begins at, the number of its source, and how often training draws from it.
DOCUMENT = np.dtype([("start", "<i8"), ("source", "<i4"), ("weight", "<f8")])
Documents = NDArray[np.void]
ONE = (0, 0, 1.0)  # a text that is one document


def write_documents(corpus: Path, documents: list[tuple[int, int, float]]) -> Documents:
    """Write what is known of the documents of a text beside it."""
    table = np.array(documents, dtype=DOCUMENT)
    with files.replacing(documents_path(corpus)) as temporary, temporary.open("wb") as file:
        np.save(file, table)
    return table


def read_documents(corpus: Path) -> Documents:
    """Read it; a text that nothing is known of is one document.

    Raises:
        TextError: where the file is another's, or damaged.
    """
    path = documents_path(corpus)
    if not path.exists():
        return np.array([ONE], dtype=DOCUMENT)
    try:
        table: Documents = np.load(path)
    except (OSError, ValueError) as error:
        raise TextError(f"{path} is damaged ({error}); `dvc repro -f download` makes it again") from None
    if table.dtype != DOCUMENT:
        raise TextError(f"{path} is of another Folio; `dvc repro -f download` makes it again")
    return table


def documents_path(corpus: Path) -> Path:
    """Give the place of the file on the documents."""
    return corpus.with_name("documents.npy")
