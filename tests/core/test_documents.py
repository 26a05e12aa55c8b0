from pathlib import Path

import numpy as np
import pytest

from stages.core.documents import read_documents, write_documents
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
