import pytest

from stages.tokenizers.byte import ByteTokenizer
from stages.tokenizers.char import CharTokenizer


def test_letters_have_numbers_regardless_of_their_case_and_other_characters_start_words():
    tokenizer = CharTokenizer(sorted("aAbé1 _\n"))
    numbers, starts_word, ends_line = (
        dict(zip(tokenizer.characters, row.tolist(), strict=True)) for row in tokenizer.token_classes()
    )
    assert numbers["a"] == numbers["A"]
    assert len({numbers[character] for character in "abé1"} - {0}) == 4
    assert {character for character, number in numbers.items() if not number} == set(" _\n")
    assert {character for character, starts in starts_word.items() if starts} == set(" _\n")
    assert {character for character, ends in ends_line.items() if ends} == {"\n"}


def test_bytes_that_are_no_characters_are_parts_of_words():
    numbers, starts_word, ends_line = ByteTokenizer().token_classes()
    assert len(set(numbers[128:].tolist()) - {0}) == 128
    assert not starts_word[128:].any()
    assert ends_line.nonzero()[0].tolist() == [10]
    assert numbers[ord("q")] == numbers[ord("Q")]


def test_a_token_of_a_space_and_letters_starts_a_word_and_has_the_number_of_its_letters():
    pytest.importorskip("tokenizers")
    from stages.tokenizers.bpe import BpeTokenizer

    tokenizer = BpeTokenizer.from_chunks(["The cat and the hat, the cat\n" * 50], vocab_size=270)
    tokens = {tokenizer.decode([token_id]): token_id for token_id in range(len(tokenizer))}
    numbers, starts_word, _ = tokenizer.token_classes()
    spaced = [text for text in tokens if text.startswith(" ") and text.strip() in tokens and text.strip().isalpha()]
    assert spaced
    for text in spaced:
        assert numbers[tokens[text]] == numbers[tokens[text.strip()]] > 0
        assert starts_word[tokens[text]]
        assert not starts_word[tokens[text.strip()]]
