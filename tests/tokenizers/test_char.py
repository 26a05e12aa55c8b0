import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import TextError
from stages.tokenizers.char import CharTokenizer
from stages.tokenizers.registry import load_tokenizer


@given(st.text(min_size=1))
def test_decode_is_the_inverse_of_encode(text: str):
    tokenizer = CharTokenizer.from_text(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.characters == sorted(set(text))


@pytest.mark.parametrize("text", ["a\r\nb", "\ufeffa", "a\0b", "😀é𝄞", "\u2028\x85"])
def test_odd_characters_survive_a_round_trip_through_the_file(tmp_path, text):
    CharTokenizer.from_text(text).save(tmp_path / "tokenizer.json")
    tokenizer = load_tokenizer(tmp_path / "tokenizer.json")
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_lectures_vocabulary_order():
    tokenizer = CharTokenizer.from_text("Bee3\n !")
    assert tokenizer.characters == ["\n", " ", "!", "3", "B", "e"]
    assert tokenizer.encode("Bee3").tolist() == [4, 5, 5, 3]


@pytest.mark.parametrize(("text", "place"), [("abz", 2), ("😀ab", 0), ("ab\0", 2)])
def test_an_unknown_character_is_named_with_its_position_and_the_vocabulary(text, place):
    with pytest.raises(TextError) as error:
        CharTokenizer.from_text("abc").encode(text)
    message = str(error.value)
    assert repr(text[place]) in message
    assert f"U+{ord(text[place]):04X}" in message
    assert f"position {place}" in message
    assert "'abc'" in message


@pytest.mark.parametrize(("count", "dtype"), [(1, np.uint8), (256, np.uint8), (257, np.uint16), (65537, np.uint32)])
def test_ids_take_the_smallest_type_that_holds_them(count, dtype):
    assert CharTokenizer(map(chr, range(count))).dtype == dtype


def test_the_file_is_readable(tmp_path):
    CharTokenizer.from_text("ba").save(tmp_path / "tokenizer.json")
    assert json.loads((tmp_path / "tokenizer.json").read_text()) == {"kind": "char", "characters": ["a", "b"]}


def test_rare_characters_and_those_that_the_text_lacks_become_the_unknown_one(tmp_path):
    tokenizer = CharTokenizer.from_text("aaabbc", min_count=2)
    assert tokenizer.characters == ["a", "b", "\ufffd"]
    assert tokenizer.encode("abcé😀").tolist() == [0, 1, 2, 2, 2]
    assert tokenizer.decode([0, 1, 2]) == "ab\ufffd"
    tokenizer.save(tmp_path / "tokenizer.json")
    again = load_tokenizer(tmp_path / "tokenizer.json")
    assert again.fingerprint == tokenizer.fingerprint != CharTokenizer("ab\ufffd").fingerprint
    assert again.encode("c").tolist() == [2]


def test_a_vocabulary_of_everything_may_have_an_unknown_one_as_well():
    tokenizer = CharTokenizer.from_text("ab\ufffd", min_count=1)
    assert tokenizer.characters == ["a", "b", "\ufffd"]
    assert tokenizer.encode("a\ufffdz").tolist() == [0, 2, 2]


def test_lengths_are_those_of_the_text():
    tokenizer = CharTokenizer.from_text("aé水😀")
    characters, size = tokenizer.token_lengths()
    assert (characters.tolist(), size.tolist()) == ([1, 1, 1, 1], [1, 2, 3, 4])
