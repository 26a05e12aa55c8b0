import bz2
import gzip
import hashlib
import importlib
import json
import logging
import lzma
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from stages.core.documents import read_documents
from stages.core.errors import TextError
from stages.download.corpus_writer import write_corpus
from stages.download.own_files import DECOMPRESSORS, read_own_files

MAX_BYTES = 10**9
ROWS = ["first\nline", "second – with a dash", "third 😀"]
LINES = "".join(json.dumps({"text": row, "id": 7}) + "\n" for row in ROWS).encode()


def parquet(path: Path, column: str = "text") -> None:
    pq.write_table(pa.table({column: ROWS, "id": [1, 2, 3]}), path, row_group_size=2)


def stored(folder: Path, column: str = "text", sources: dict[str, float] | None = None) -> tuple[str, list[int]]:
    corpus = folder / "raw/corpus.txt"
    found = write_corpus(read_own_files(folder / "own", column, sources or {"*": 1.0}, MAX_BYTES), corpus)
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
        ("a.jsonl", b'{"body": "x"}\n', "row 1 has no column 'text' (it has: body); set download.column, or correct"),
        ("a.jsonl", b'{"text": "x"}\n{"txt": "y"}\n', "row 2 has no column 'text' (it has: txt)"),
        ("a.jsonl", b'{"text": "x"}\n{"text": 5}\n', "row 2 has 5 in column 'text', which is not a string; remove"),
        ("a.jsonl", b'{"text": "x"}\n\n{"text": 5}\n', "row 3 has 5 in column 'text'"),
        ("a.jsonl", b"no json\n", "is not JSON Lines"),
        ("a.parquet", b"no parquet", "cannot be read as Parquet"),
        ("a.txt.gz", b"no gzip", "cannot be read"),
        ("a.txt.gz", gzip.compress(b"whole" * 1000, mtime=0)[:-20], "cannot be read"),
        ("a.txt.gz", gzip.compress(b"one\ntwo\xff", mtime=0), "is not UTF-8: byte 7 (line 2) is 0xff"),
        ("a.txt.gz", gzip.compress(b"two\xff", mtime=0), "for example from Latin-1: `iconv -f latin1 -t UTF-8`"),
        (
            "a.txt",
            b"",
            "text and JSON Lines also compressed) that is not empty; add your text there",
        ),
        ("a.txt", b"\xef\xbb\xbf", "would be empty"),  # a byte-order mark alone
        ("a.txt.gz", gzip.compress(b"", mtime=0), "would be empty"),
        ("a.csv", b"x", "no file of a supported type"),
        ("a.txt", "käse".encode("utf-16"), "is UTF-16, not UTF-8; convert it: `mv "),
        ("a.txt", b"%PDF-1.7\n", "a.txt is a PDF, not a text; extract its text"),
        ("a.txt", b"PK\x03\x04...", "is a ZIP archive (as are DOCX, XLSX and EPUB), not a text"),
        ("a.txt", "käse".encode("utf-32"), "is UTF-32, not UTF-8"),
        ("a.txt", "a first line\n".encode("utf-16-le"), "is UTF-16LE, not UTF-8"),
        ("a.txt", "a first line\n".encode("utf-16-be"), "is UTF-16BE, not UTF-8"),
        ("a.txt", "a first line\n".encode("utf-32-le"), "is UTF-32LE, not UTF-8"),
        ("a.jsonl", '{"text": "x"}\n'.encode("utf-16"), "is UTF-16"),
        ("a.jsonl", b'{"text": "\\ud83d"}\n', "row 1 has an unpaired surrogate"),
        ("a.jsonl", b'{"text": "x"}\n\n["x"]\n', "line 3 is not an object"),
        ("a.jsonl", b'{"text": "x"}\n{"text"\n', "line 2: Expecting"),
        ("a.jsonl", b"[" * 100_000, "is not JSON Lines"),
        ("a.txt.xz", lzma.compress(b"whole" * 1000)[:-9] + b"damaged..", "cannot be read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
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
    for sources in ({"*": 1.0, "c/*": 2.0}, {"c/*": 1.0}):
        with pytest.raises(TextError, match=r"matches 'c/\*' and no earlier pattern; the files are: a.txt, b/one.txt"):
            stored(own.parent, sources=sources)
    with pytest.raises(TextError, match=r"b/one.txt matches '\*' first: put 'b/\*' before '\*'"):
        stored(own.parent, sources={"*": 1.0, "b/*": 2.0})
    with pytest.raises(TextError, match=r"all of its files, such as a.txt, match '\*.txt' first: remove '\*'"):
        stored(own.parent, sources={"*.txt": 1.0, "*": 2.0})
    (own / "notes.md").write_text("notes")
    with pytest.raises(TextError, match=r"notes.md matches '\*' first: put '\*.md' before '\*'"):
        stored(own.parent, sources={"*": 1.0, "*.md": 2.0})
    assert stored(own.parent, sources={"*.md": 2.0, "*": 1.0})[0].startswith("notes")


def test_valid_files_are_read_whatever_their_other_columns_and_names(own: Path):
    (own / "a.jsonl").write_bytes(b'\xef\xbb\xbf{"text": "one", "id": 123456789012345678901234567890}\r\n')
    (own / "b::c.txt").write_bytes(b"\xef\xbb\xbftwo\r\n")
    (own / "c.txt").write_bytes(b"\xef\xbb\xbfthree")
    (own / "d.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbffour"))
    assert stored(own.parent)[0] == "one\n\ntwo\r\n\n\nthree\n\nfour"


def test_empty_files_are_left_out_also_packed_or_with_a_byte_order_mark(own: Path, caplog):
    caplog.set_level(logging.INFO, "folio")
    contents = {
        "__init__.py": b"", "a.py": b"first", "b.py": b"\xef\xbb\xbf", "c.txt.gz": gzip.compress(b"", mtime=0),
        "d.jsonl": b"\xef\xbb\xbf", "e.py": b"\xef\xbb\xbfsecond", "f.py": b"\xef\xbb\xbf",
    }  # fmt: skip
    for name, content in contents.items():
        (own / name).write_bytes(content)
    text, starts = stored(own.parent, sources={"*.py": 1.0, "*": 1.0})
    assert text == "first\n\nsecond"
    assert starts == [0, 7]
    assert "left out: 1 (empty: 1)" in caplog.text


def test_a_zstandard_file_without_its_package_says_what_to_install(own: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, DECOMPRESSORS[".zst"], None)  # import raises ImportError
    (own / "a.txt.zst").write_bytes(b"\x28\xb5\x2f\xfd...")
    with pytest.raises(TextError, match=r"a\.txt\.zst: Zstandard files need .*zstd: pip install .*\[zstd\]"):
        stored(own.parent)


@pytest.mark.pipeline
def test_zstandard_files_are_read_and_damaged_ones_are_named(own: Path):
    zstd = importlib.import_module(DECOMPRESSORS[".zst"])
    packed = zstd.compress(b"".join(b"line %d\n" % number for number in range(100_000)))
    (own / "a.txt.zst").write_bytes(packed)
    assert stored(own.parent)[0].endswith("line 99999\n")
    for damaged in (packed[: len(packed) * 2 // 3], packed[:6] + b"\xff" * 50 + packed[56:], b"no Zstandard"):
        (own / "a.txt.zst").write_bytes(damaged)
        with pytest.raises(TextError, match=r"a\.txt\.zst cannot be read \(.+\); check that it is complete"):
            stored(own.parent)
        (own / "a.jsonl.zst").write_bytes(damaged)
        with pytest.raises(TextError, match=r"a\.jsonl\.zst is not JSON Lines"):
            stored(own.parent)
        (own / "a.jsonl.zst").unlink()


def test_what_is_left_out_is_counted_by_reason(own: Path, caplog):
    caplog.set_level(logging.INFO, "folio")
    for name in ("x.txt", "a.py", "b.py", "c.md", "Makefile", ".hidden.txt", ".ipynb_checkpoints/x.txt", "README.md"):
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_text(name)
    (own.parent / "elsewhere").mkdir()
    (own / "link").symlink_to(own.parent / "elsewhere")
    (own / "broken.txt").symlink_to(own.parent / "nowhere")
    os.mkfifo(own / "pipe.txt")
    assert stored(own.parent)[0] == "x.txt"
    kinds = ".md: 1, .py: 2, broken links: 1, hidden: 2, linked folders: 1, no ending: 1, pipes and devices: 1"
    assert f"files read: 1, left out: 9 ({kinds})" in caplog.text
    assert "name them in download.sources" in caplog.text
    caplog.clear()
    text, _ = stored(own.parent, sources={"*.py": 1.0, "Makefile": 1.0, "*.md": 1.0, "*": 1.0})
    assert text.split("\n\n") == ["a.py", "b.py", "Makefile", "c.md", "x.txt"]
    assert (
        "files read: 5, left out: 5 (broken links: 1, hidden: 2, linked folders: 1, pipes and devices: 1)"
        in caplog.text
    )
    assert "name them in download.sources" not in caplog.text
    caplog.clear()
    assert stored(own.parent, sources={"x*": 1.0})[0] == "x.txt"
    assert "no pattern matches: 4" in caplog.text


def test_a_document_that_equals_an_earlier_one_is_left_out_and_named(own: Path):
    long = "the same words again " * 20
    (own / "a.txt").write_text(long)
    (own / "b.txt").write_text("something else")
    (own / "c.txt").write_text(long)
    (own / "d.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in (long, "yes", "yes", long + "!"))
    )
    corpus = own.parent / "raw/corpus.txt"
    found = write_corpus(read_own_files(own, "text", {"*": 1.0}, MAX_BYTES), corpus)
    text = "\n\n".join((long, "something else", "yes", "yes", long + "!"))
    assert corpus.read_text() == text
    assert (found.bytes, found.characters) == (len(text), len(text))
    assert found.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert [text[start:][:3] for start in found.documents["start"]] == ["the", "som", "yes", "yes", "the"]
    assert found.copies == [(str(own / "c.txt"), str(own / "a.txt")), (f"{own / 'd.jsonl'}, row 1", str(own / "a.txt"))]


def test_documents_in_chunks_are_compared_as_a_whole(own: Path, monkeypatch):
    monkeypatch.setattr("stages.core.text_files.CHUNK_BYTES", 50)
    long = "the same words again " * 20
    for name, text in (("a.txt", long), ("b.txt", long + "x"), ("c.txt", long)):
        (own / name).write_text(text)
    assert stored(own.parent)[0] == f"{long}\n\n{long}x"


PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


@pytest.mark.parametrize("name", ["zeros.txt.gz", "zeros.jsonl.xz", "zeros.txt.bz2", "rows.parquet"])
def test_a_small_file_with_too_much_in_it_is_refused_early(own: Path, name: str):
    if name.endswith("parquet"):
        pq.write_table(pa.table({"text": ["a" * 10_000] * 10_000}), own / name, row_group_size=1000)
    else:
        (own / name).write_bytes(PACK[Path(name).suffix](b"a" * 100_000_000))
    with pytest.raises(TextError, match=r"is larger than download.max_bytes \(1000000\); increase it"):
        list(read_own_files(own, "text", {"*": 1.0}, 1_000_000))


def test_a_text_that_is_not_compressed_may_be_larger(own: Path):
    (own / "a.txt").write_text("a" * 1000)
    assert "".join(chunk.text for chunk in read_own_files(own, "text", {"*": 1.0}, 10)) == "a" * 1000
