import os

import pytest

from stages.core import files


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    files.write_text(path, "first\r\n")
    assert path.read_bytes() == b"first\r\n"
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == b"first\r\n"
    assert os.listdir(path.parent) == ["file.txt"]  # noqa: PTH208


def test_a_linked_file_is_replaced_and_what_it_links_to_stays(tmp_path):
    cached = tmp_path / "cache"
    cached.write_text("cached")
    path = tmp_path / "file"
    path.symlink_to(cached)
    files.write_text(path, "new")
    assert cached.read_text() == "cached"
    assert path.read_text() == "new"


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_json_refuses_what_is_no_number(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "file", {"loss": float("nan")})
    assert not (tmp_path / "file").exists()
