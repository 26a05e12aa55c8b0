from stages.core.files import write_tsv


def test_a_table_has_a_head_whole_numbers_and_six_digits(tmp_path):
    write_tsv(tmp_path / "new" / "t.tsv", ("step", "loss"), [(1, 2.0), (20, 1 / 3), (300, 1e-7)])
    assert (tmp_path / "new" / "t.tsv").read_text() == "step\tloss\n1\t2\n20\t0.333333\n300\t1e-07\n"
