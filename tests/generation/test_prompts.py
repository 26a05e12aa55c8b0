import pytest

from stages.core.errors import ParameterError, TextError
from stages.generation.prompts import default_prompt, replace_unknown
from stages.tokenizers.byte import ByteTokenizer
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


def test_the_character_for_unknown_ones_is_not_similar_to_any():
    tokenizer = CharTokenizer("\n abc�", has_unknown=True)
    assert replace_unknown("b😀", tokenizer, "nearest") == "bc"


@pytest.mark.parametrize(
    ("text", "unknown", "message"),
    [
        ("", "error", "the text is empty"),
        ("777", "skip", r"the text has only unknown characters \(3\)"),
    ],
)
def test_an_empty_prompt_is_refused(text, unknown, message):
    with pytest.raises(TextError, match=message):
        replace_unknown(text, TOKENIZER, unknown)


def test_a_long_list_of_unknown_characters_is_cut():
    with pytest.raises(TextError, match=r"U\+0113.* and 5 more; remove them"):
        replace_unknown("".join(map(chr, range(0x100, 0x119))), TOKENIZER, "error")


@pytest.mark.parametrize("text", [5, b"a", ["a"], None])
def test_a_text_that_is_no_string_is_refused(text):
    with pytest.raises(ParameterError, match=r"the text is \w+: it must be a str"):
        replace_unknown(text, TOKENIZER, "error")


@pytest.mark.parametrize("tokenizer", [TOKENIZER, ByteTokenizer()], ids=["char", "byte"])
@pytest.mark.parametrize("policy", ["error", "skip", "nearest"])
def test_half_a_surrogate_pair_is_refused(tokenizer, policy):
    with pytest.raises(TextError, match=r"'\\udce9' at position 1 is an unpaired surrogate"):
        replace_unknown("a\udce9", tokenizer, policy)


def test_the_default_prompt_is_a_line_break_or_the_first_character():
    assert default_prompt(TOKENIZER) == "\n"
    assert default_prompt(ByteTokenizer()) == "\n"
    assert default_prompt(CharTokenizer("ab")) == "a"
