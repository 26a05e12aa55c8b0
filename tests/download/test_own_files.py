import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.documents import DOCUMENT, read_documents
from stages.core.errors import TextError
from stages.download.own_files import own_pieces
from stages.download.storage import store
from stages.tokenize.splitting import Span, cut_at, divide, within

ROWS = ["first\nline", "second – with a dash", "third 😀"]
LINES = "".join(json.dumps({"text": row, "id": 7}) + "\n" for row in ROWS).encode()


def parquet(path: Path, column: str = "text") -> None:
    pq.write_table(pa.table({column: ROWS, "id": [1, 2, 3]}), path, row_group_size=2)


def stored(folder: Path, column: str = "text", sources: dict[str, float] | None = None) -> tuple[str, list[int]]:
    corpus = folder / "raw/corpus.txt"
    found = store(own_pieces(folder / "own", column, sources or {"*": 1.0}), corpus)
    text = corpus.read_bytes().decode()
    assert found.characters == len(text)
    assert read_documents(corpus).tolist() == found.documents.tolist()
    return text, found.documents["start"].tolist()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("a.ndjson", LINES),
        ("a.jsonl.gz", gzip.compress(LINES, mtime=0)),
        ("a.jsonl.bz2", bz2.compress(LINES)),
        ("a.jsonl.xz", lzma.compress(LINES)),
        ("a.parquet", None),
    ],
)
def test_every_row_is_a_document(own: Path, name: str, content: bytes | None):
    parquet(own / name) if content is None else (own / name).write_bytes(content)
    text, starts = stored(own.parent)
    assert text == "\n\n".join(ROWS)
    assert [text[start:].split("\n\n")[0] for start in starts] == ROWS


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}


@pytest.mark.parametrize("ending", PACKERS)
def test_every_text_file_is_a_document_in_the_order_of_paths(own: Path, ending: str, monkeypatch):
    pack = PACKERS[ending]
    monkeypatch.setattr("stages.core.text_files.PIECE", 5)  # pieces cut characters and words
    (own / "b").mkdir()
    (own / f"b/second.txt{ending}").write_bytes(pack(b"two"))
    (own / f"first.txt{ending}").write_bytes(pack("ein – Ähre".encode()))
    (own / "notes.md").write_text("not a text")
    text, starts = stored(own.parent)
    assert text == "two\n\nein – Ähre"
    assert starts == [0, 5]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"body": "x"}\n', "has no column 'text' (it has: body); set download.column"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 5}\n', "row 2 has 5 in column 'text'"),
        ("a.jsonl", b"no json\n", "is not JSON Lines"),
        ("a.parquet", b"no parquet", "cannot be read as Parquet"),
        ("a.txt.gz", b"no gzip", "cannot be read"),
        ("a.txt.gz", gzip.compress(b"whole" * 1000, mtime=0)[:-20], "cannot be read"),
        ("a.txt.gz", gzip.compress(b"one\ntwo\xff", mtime=0), "is not UTF-8: byte 7 (line 2) is 0xff"),
        ("a.txt", b"", "is empty"),
        ("a.csv", b"x", "no file of a kind that is known"),
    ],
)
def test_what_cannot_be_read_is_named(own: Path, name: str, content: bytes, message: str):
    (own / name).write_bytes(content)
    with pytest.raises(TextError) as error:
        stored(own.parent)
    assert message in str(error.value)
    assert not (own.parent / "raw/corpus.txt").exists()


def test_another_column_may_hold_the_text(own: Path):
    (own / "a.jsonl").write_bytes(LINES.replace(b'"text"', b'"body"'))
    assert stored(own.parent, "body")[0] == "\n\n".join(ROWS)


def test_a_document_is_never_in_both_parts():
    starts = np.array([0, 100, 850, 990])
    assert cut_at(1000, 0.1, "x", starts) == 850
    assert cut_at(1000, 0.1, "x", starts[:1]) == 900
    assert cut_at(1000, 0.1, "x") == 900
    with pytest.raises(TextError, match="999 train and 1 validate"):
        cut_at(1000, 0.1, "x", np.array([0, 999]))


def test_sources_come_in_the_order_given_and_a_file_belongs_to_the_first_that_it_fits(own: Path):
    for name in ("b/one.txt", "b/two.txt", "a.txt", "left.txt"):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text(name)
    text, _ = stored(own.parent, sources={"b/t*": 2.0, "b/*": 0.5, "a*": 1.0})
    assert text == "b/two.txt\n\nb/one.txt\n\na.txt"
    documents = read_documents(own.parent / "raw/corpus.txt")
    assert documents["source"].tolist() == [0, 1, 2]
    assert documents["weight"].tolist() == [2.0, 0.5, 1.0]
    with pytest.raises(TextError, match=r"is of 'c/\*' and of none before it; there are: a.txt, b/one.txt"):
        stored(own.parent, sources={"*": 1.0, "c/*": 2.0})


def test_every_source_trains_with_its_first_documents_and_validates_with_its_last():
    documents = np.array([(0, 0, 2.0), (100, 0, 2.0), (180, 0, 2.0), (200, 1, 0.5)], dtype=DOCUMENT)
    train, val = divide(documents, 300, 0.1, Path("x"))
    assert train == [Span(0, 180, 2.0), Span(200, 290, 0.5)]
    assert val == [Span(180, 200), Span(290, 300)]


def test_a_source_that_is_too_short_is_named():
    documents = np.array([(0, 0, 1.0), (290, 1, 1.0)], dtype=DOCUMENT)
    with pytest.raises(TextError, match="source 2 of x has 10 characters"):
        divide(documents, 300, 0.1, Path("x"))
    with pytest.raises(TextError, match=r"^x has 10 characters"):
        divide(documents[:1], 10, 0.1, Path("x"))


@given(st.lists(st.text(max_size=6)), st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_spans_are_cut_out_of_pieces(pieces: list[str], cuts: list[int]):
    whole = "".join(pieces)
    bounds = sorted(cuts)
    spans = [Span(start, end) for start, end in pairwise(bounds)][::2]
    found = ["".join(text) for _, text in within(pieces, spans)]
    assert found == [whole[each.start : each.end] for each in spans]


def test_documents_of_another_folio_are_refused(tmp_path: Path):
    np.save(tmp_path / "documents.npy", np.array([0, 5]))
    with pytest.raises(TextError, match="is of another Folio"):
        read_documents(tmp_path / "corpus.txt")
    (tmp_path / "documents.npy").write_bytes(b"no array")
    with pytest.raises(TextError, match="is damaged"):
        read_documents(tmp_path / "corpus.txt")
