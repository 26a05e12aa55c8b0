import pytest

from stages.core.errors import TextError
from stages.core.text_files import HOW_TO_DOWNLOAD, read_chunks, read_text


@pytest.mark.parametrize("piece", [1, 3, 100])
def test_what_is_not_utf8_is_named_with_byte_and_line(piece, tmp_path, monkeypatch):
    monkeypatch.setattr("stages.core.text_files.CHUNK_BYTES", piece)
    (tmp_path / "latin.txt").write_bytes("fi–st\nc".encode() + b"\xe9\n")
    with pytest.raises(TextError, match=r"latin\.txt is not UTF-8: byte 9 \(line 2\) is 0xe9.*iconv"):
        read_text(tmp_path / "latin.txt")


def test_a_character_that_ends_too_soon_is_named(tmp_path):
    (tmp_path / "cut.txt").write_bytes("a\n–".encode()[:-1])
    with pytest.raises(TextError, match=r"cut\.txt is not UTF-8: byte 2 \(line 2\) is 0xe2"):
        read_text(tmp_path / "cut.txt")


def test_an_empty_text_is_refused(tmp_path):
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(TextError, match=r"empty\.txt is empty"):
        read_text(tmp_path / "empty.txt")


def test_line_ends_stay_and_a_byte_order_mark_stays_in_a_corpus_only(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert "".join(read_chunks(tmp_path / "a.txt", "")) == "\ufeffa\r\nb\rc\n"
    assert read_text(tmp_path / "a.txt") == "a\r\nb\rc\n"


def test_a_missing_text_is_named_with_what_to_do(tmp_path):
    with pytest.raises(TextError, match=r"none\.txt does not exist; check the path"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(TextError, match="dvc repro download"):
        read_text(tmp_path / "none.txt", HOW_TO_DOWNLOAD)
