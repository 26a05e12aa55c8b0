import os
import subprocess
import sys

import pytest

from stages.core import files


def test_a_file_is_there_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    files.write_text(path, "first\r\n")
    assert path.read_bytes() == b"first\r\n"
    with pytest.raises(RuntimeError), files.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_bytes() == b"first\r\n"
    assert os.listdir(path.parent) == ["file.txt"]  # noqa: PTH208


def test_writing_replaces_a_link_and_keeps_its_target(tmp_path):
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


def test_json_refuses_nan_and_infinity(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "file", {"loss": float("nan")})
    assert not (tmp_path / "file").exists()


def test_a_table_has_a_header_whole_numbers_and_six_digits(tmp_path):
    files.write_tsv(tmp_path / "new" / "t.tsv", ("step", "loss"), [(1, 2.0), (20, 1 / 3), (300, 1e-7)])
    assert (tmp_path / "new" / "t.tsv").read_text() == "step\tloss\n1\t2\n20\t0.333333\n300\t1e-07\n"


def test_what_a_killed_process_left_is_deleted_and_what_another_one_writes_is_not(tmp_path):
    path = tmp_path / "file"
    code = "import os, sys; from pathlib import Path; from stages.core import files\n"
    killed = "with files.atomic_write(Path(sys.argv[1])) as temporary: temporary.write_text('half'); os._exit(1)"
    subprocess.run([sys.executable, "-c", code + killed, str(path)], check=False)
    (leftover,) = tmp_path.iterdir()
    os.utime(leftover, (0, 0))
    with files.atomic_write(path) as other:
        assert not leftover.exists()
        os.utime(other, (0, 0))
        files.write_text(path, "new")
        assert other.exists()
        other.write_text("newer")
    assert path.read_text() == "newer"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
