import pytest

from stages.core.errors import TextError
from stages.generation.prompts import replace_unknown
from stages.tokenizers.char import CharTokenizer

TOKENIZER = CharTokenizer("\n .ABCabce")


def test_known_text_stays():
    assert replace_unknown("ABC abc.\n", TOKENIZER, "error") == "ABC abc.\n"


def test_every_unknown_character_is_listed_with_its_position():
    with pytest.raises(TextError) as error:
        replace_unknown("ab7é7", TOKENIZER, "error")
    message = str(error.value)
    assert "'7' (U+0037, first at position 2)" in message
    assert "'é' (U+00E9, first at position 3)" in message
    assert "(option --unknown) to skip or nearest" in message


@pytest.mark.parametrize(
    ("unknown", "text", "expected"),
    [
        ("skip", "a7bé", "ab"),
        ("nearest", "é", "e"),
        ("nearest", "E", "e"),
        ("nearest", "Å", "A"),
        ("nearest", "d", "c"),
    ],
)
def test_unknown_characters_are_removed_or_replaced_by_the_nearest(unknown, text, expected):
    assert replace_unknown(text, TOKENIZER, unknown) == expected


@pytest.mark.parametrize(("text", "unknown"), [("", "error"), ("777", "skip")])
def test_an_empty_prompt_is_refused(text, unknown):
    with pytest.raises(TextError, match="the text is empty"):
        replace_unknown(text, TOKENIZER, unknown)
