from pathlib import Path

import numpy as np
import pytest

from stages.core.documents import DOCUMENT, read_documents, write_documents
from stages.core.errors import TextError


def test_the_table_comes_back_and_its_absence_is_one_document(tmp_path: Path):
    corpus = tmp_path / "corpus.txt"
    assert read_documents(corpus).tolist() == [(0, 0, 1.0)]
    documents = [(0, 0, 2.0), (7, 1, 0.5)]
    assert write_documents(corpus, documents).tolist() == documents
    assert read_documents(corpus).tolist() == documents


def test_documents_of_another_folio_are_refused(tmp_path: Path):
    np.save(tmp_path / "documents.npy", np.array([0, 5]))
    with pytest.raises(TextError, match="another version of Folio"):
        read_documents(tmp_path / "corpus.txt")
    (tmp_path / "documents.npy").write_bytes(b"no array")
    with pytest.raises(TextError, match="is damaged"):
        read_documents(tmp_path / "corpus.txt")


@pytest.mark.parametrize(
    "documents",
    [
        [],
        [(1, 0, 1.0)],
        [(0, 0, 1.0), (0, 0, 1.0)],
        [(0, 0, 1.0), (9, 0, 1.0), (5, 0, 1.0)],
        [(0, -1, 1.0)],
        [(0, 1, 1.0), (5, 0, 1.0)],
        [(0, 0, 0.0)],
        [(0, 0, float("nan"))],
        [(0, 0, float("inf"))],
    ],
    ids=str,
)
def test_a_table_with_impossible_values_is_refused(tmp_path, documents):
    write_documents(tmp_path / "corpus.txt", documents)
    with pytest.raises(TextError, match=r"documents\.npy is damaged \(impossible values\); run `dvc repro -f d"):
        read_documents(tmp_path / "corpus.txt")


def test_a_table_of_one_number_is_refused(tmp_path):
    np.save(tmp_path / "documents.npy", np.zeros((), dtype=DOCUMENT))
    with pytest.raises(TextError, match="impossible values"):
        read_documents(tmp_path / "corpus.txt")
