import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from stages.core.documents import read_documents
from stages.core.errors import TextError
from stages.download.own_files import read_own_files
from stages.download.storage import write_corpus

ROWS = ["first\nline", "second – with a dash", "third 😀"]
LINES = "".join(json.dumps({"text": row, "id": 7}) + "\n" for row in ROWS).encode()


def parquet(path: Path, column: str = "text") -> None:
    pq.write_table(pa.table({column: ROWS, "id": [1, 2, 3]}), path, row_group_size=2)


def stored(folder: Path, column: str = "text", sources: dict[str, float] | None = None) -> tuple[str, list[int]]:
    corpus = folder / "raw/corpus.txt"
    found = write_corpus(read_own_files(folder / "own", column, sources or {"*": 1.0}), corpus)
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
    monkeypatch.setattr("stages.core.text_files.CHUNK_BYTES", 5)  # pieces cut characters and words
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
        ("a.jsonl", b'{"text": "x"}\n{"text": 5}\n', "row 2 has 5 in column 'text', which is not a string"),
        ("a.jsonl", b"no json\n", "is not JSON Lines"),
        ("a.parquet", b"no parquet", "cannot be read as Parquet"),
        ("a.txt.gz", b"no gzip", "cannot be read"),
        ("a.txt.gz", gzip.compress(b"whole" * 1000, mtime=0)[:-20], "cannot be read"),
        ("a.txt.gz", gzip.compress(b"one\ntwo\xff", mtime=0), "is not UTF-8: byte 7 (line 2) is 0xff"),
        ("a.txt", b"", "is empty"),
        ("a.csv", b"x", "no file of a supported type"),
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


def test_sources_come_in_the_order_given_and_a_file_belongs_to_the_first_that_it_fits(own: Path):
    for name in ("b/one.txt", "b/two.txt", "a.txt", "left.txt"):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text(name)
    text, _ = stored(own.parent, sources={"b/t*": 2.0, "b/*": 0.5, "a*": 1.0})
    assert text == "b/two.txt\n\nb/one.txt\n\na.txt"
    documents = read_documents(own.parent / "raw/corpus.txt")
    assert documents["source"].tolist() == [0, 1, 2]
    assert documents["weight"].tolist() == [2.0, 0.5, 1.0]
    with pytest.raises(TextError, match=r"matches 'c/\*' and no earlier pattern; the files are: a.txt, b/one.txt"):
        stored(own.parent, sources={"*": 1.0, "c/*": 2.0})
