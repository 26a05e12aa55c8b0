"""The document table beside a corpus: where each document of the text begins, and which source it is from."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.core.errors import TextError
from stages.core.files import atomic_write, read_array

# start: first character of the document; source: number of its source; weight: how often training samples the source.
DOCUMENT = np.dtype([("start", "<i8"), ("source", "<i4"), ("weight", "<f8")])
DocumentTable = NDArray[np.void]
SINGLE_DOCUMENT = (0, 0, 1.0)


def write_documents(corpus: Path, documents: list[tuple[int, int, float]]) -> DocumentTable:
    """Write the table of a corpus, (start, source, weight) per document, beside it and return it as an array."""
    table = np.array(documents, dtype=DOCUMENT)
    with atomic_write(documents_path(corpus)) as temporary, temporary.open("wb") as file:
        np.save(file, table)
    return table


def read_documents(corpus: Path) -> DocumentTable:
    """Return the table of a corpus; a corpus without a table is a single document.

    Raises:
        TextError: if the file is damaged or has another format.
    """
    path = documents_path(corpus)
    if not path.exists():
        return np.array([SINGLE_DOCUMENT], dtype=DOCUMENT)
    table: DocumentTable = read_array(path, "download")
    if table.dtype != DOCUMENT:
        raise TextError(
            f"{path} was written by another version of Folio; run `dvc repro -f download` to write it again"
        )
    starts, sources, weights = table["start"], table["source"], table["weight"]
    is_valid = (
        (table.ndim == 1 and len(table) > 0 and starts[0] == 0)
        and ((np.diff(starts) > 0).all() and (np.diff(sources) >= 0).all() and sources[0] >= 0)
        and (np.isfinite(weights).all() and weights.min() > 0)
    )
    if not is_valid:
        raise TextError(f"{path} is damaged (impossible values); run `dvc repro -f download` to write it again")
    return table


def documents_path(corpus: Path) -> Path:
    """Return the path of the table of a corpus; another text in the same folder must have one of its own."""
    return corpus.with_name("documents.npy" if corpus.name == "corpus.txt" else f"{corpus.name}.documents.npy")
