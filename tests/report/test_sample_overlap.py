from stages.metrics.memorization import TrainingText
from stages.report.sample_overlap import mark_overlap, one_break_per_line, read_samples
from stages.tokenizers.char import CharTokenizer

TOKENIZER = CharTokenizer("\n ab")


def test_copied_parts_are_marked_and_the_text_is_unchanged():
    train = TOKENIZER.encode("abba baab ab\nba aab abb ba\n" * 2)
    text = "bbbbbbb" + "abba baab ab\nba aab abb" + "bbb"
    marked = mark_overlap([text], TrainingText(train, TOKENIZER))
    assert "".join(piece for piece, _ in marked.samples[0]) == text
    assert [piece for piece, is_copied in marked.samples[0] if is_copied] == ["abba baab ab\nba aab abb"]
    assert marked.overlap.longest == 23


def test_samples_are_found_in_their_file_and_shown_with_one_break_per_line(tmp_path):
    (tmp_path / "samples.txt").write_text("--- sample 1 ---\na\n\nb\n--- sample 2 ---\n c\0\n")
    assert read_samples(tmp_path / "samples.txt") == ["a\n\nb", " c\0"]
    pieces = [("a\r\nb\rc\nd\0\r", True), ("\ne\r", False), ("f\r", True)]
    assert one_break_per_line(pieces) == [("a\nb\nc\nd\\x00", True), ("\ne\n", False), ("f\n", True)]
