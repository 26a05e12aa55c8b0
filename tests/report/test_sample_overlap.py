from stages.metrics.memorization import TrainingText
from stages.report.sample_overlap import mark_overlap, split_samples
from stages.tokenizers.char import CharTokenizer

TOKENIZER = CharTokenizer("\n ab")


def test_copied_parts_are_marked_and_the_text_is_unchanged():
    train = TOKENIZER.encode("abba baab ab\nba aab abb ba\n" * 2)
    text = "bbbbbbb" + "abba baab ab\nba aab abb" + "bbb"
    marked = mark_overlap([text], TrainingText(train, TOKENIZER))
    assert "".join(piece for piece, _ in marked.samples[0]) == text
    assert [piece for piece, is_copied in marked.samples[0] if is_copied] == ["abba baab ab\nba aab abb"]
    assert marked.overlap.longest == 23


def test_samples_are_found_in_their_file():
    assert split_samples("--- sample 1 ---\na\n\nb\n--- sample 2 ---\n c\n") == ["a\n\nb", " c"]
