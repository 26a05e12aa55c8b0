from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.metrics import memorization as copying
from stages.metrics.memorization import WINDOW, Overlap, TrainingText, matching_windows, verbatim_overlap
from stages.tokenizers.byte import ByteTokenizer
from stages.tokenizers.char import CharTokenizer

DRAW = np.random.default_rng(1)
LETTERS = CharTokenizer(map(chr, range(0x100, 0x160)))
TRAIN = DRAW.integers(0, 50, 5000, dtype=np.uint8)
STRANGE = DRAW.integers(50, 60, 300, dtype=np.uint8)


def overlap(texts: list[Any], train: Any) -> Overlap:
    return verbatim_overlap([LETTERS.decode(text) for text in texts], TrainingText(train, LETTERS))


def test_a_planted_copy_is_found_whole():
    planted = np.concatenate((STRANGE[:100], TRAIN[700:757], STRANGE[100:]))
    result = overlap([planted, STRANGE], TRAIN)
    assert result.longest == 57
    assert np.flatnonzero(result.masks[0]).tolist() == list(range(100, 157))
    assert not result.masks[1].any()
    windows = len(planted) + len(STRANGE) - 2 * (WINDOW - 1)
    assert result.share == pytest.approx((57 - WINDOW + 1) / windows)


def test_two_copies_side_by_side_are_not_one_long_one():
    planted = np.concatenate((TRAIN[100:140], TRAIN[3000:3025]))
    result = overlap([planted], TRAIN)
    assert result.longest == 40
    assert result.masks[0].all()


def test_below_a_window_the_longest_is_found_and_nothing_is_marked():
    planted = np.concatenate((STRANGE[:30], TRAIN[40:47], STRANGE[30:60]))
    result = overlap([planted], TRAIN)
    assert (result.share, result.longest) == (0.0, 7)
    assert overlap([TRAIN[:5]], TRAIN).longest == 5
    assert overlap([], TRAIN).longest == 0


def test_the_training_text_itself_is_all_copied(monkeypatch):
    monkeypatch.setattr(copying, "CHUNK_TOKENS", 64)  # windows across chunks count as well
    result = overlap([TRAIN[:2000]], TRAIN)
    assert (result.share, result.longest) == (1.0, 2000)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2), max_size=60), st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 9)
)
def test_equals_looking_at_every_place(train: list[int], text: list[int], length: int):
    (found,) = matching_windows(
        [LETTERS.code_points(text)], TrainingText(np.array(train, dtype=np.int64), LETTERS), length
    )
    places = [train[start : start + length] for start in range(len(train) - length + 1)]
    assert found.tolist() == [text[start : start + length] in places for start in range(len(text) - length + 1)]


def test_characters_count_whatever_the_tokens(monkeypatch):
    monkeypatch.setattr(copying, "CHUNK_TOKENS", 64)  # which cuts characters
    train = "".join(LETTERS.decode(TRAIN[:300])) + "水" * 30 + "😀" * 25
    known = TrainingText(ByteTokenizer().encode(train), ByteTokenizer())
    result = verbatim_overlap([train[100:160], "x" + train[300:355]], known)
    assert [len(mask) for mask in result.masks] == [60, 56]
    assert result.longest == 60
    assert result.masks[0].all()
    assert result.masks[1].tolist() == [False] + [True] * 55
