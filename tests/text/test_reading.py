from pathlib import Path

import pytest

from stages.errors import TextError
from stages.text.reading import decode, read_text


def test_what_is_not_utf8_is_named_with_byte_and_line():
    with pytest.raises(TextError, match=r"latin\.txt is not UTF-8: byte 7 \(line 2\) is 0xe9.*iconv"):
        decode(b"first\nc\xe9", Path("latin.txt"))


def test_an_empty_text_is_refused():
    with pytest.raises(TextError, match=r"empty\.txt is empty"):
        decode(b"", Path("empty.txt"))


def test_line_ends_and_byte_order_marks_stay(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\n")
    assert read_text(tmp_path / "a.txt") == "\ufeffa\r\nb\rc\n"


def test_a_missing_text_says_what_fetches_it(tmp_path):
    with pytest.raises(TextError, match="dvc repro download"):
        read_text(tmp_path / "none.txt")
