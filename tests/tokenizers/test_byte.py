from hypothesis import given
from hypothesis import strategies as st

from stages.tokenizers.byte import ByteTokenizer

TOKENIZER = ByteTokenizer()


@given(st.text())
def test_every_text_is_its_bytes_and_back(text: str):
    ids = TOKENIZER.encode(text)
    assert bytes(ids) == text.encode()
    assert TOKENIZER.decode(ids) == text
    characters, size = TOKENIZER.lengths()
    assert (characters[ids].sum(), size[ids].sum()) == (len(text), len(text.encode()))


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4), st.integers(0, 3))
def test_texts_side_by_side_come_out_byte_by_byte(texts: list[str], cut: int):
    encoded = [text.encode()[: len(text.encode()) - cut] for text in texts]  # the last character may be in pieces
    length = max(map(len, encoded))
    padded = [each.ljust(length, b".") for each in encoded]
    decoding = TOKENIZER.streams(len(texts))
    made = [""] * len(texts)
    for ids in zip(*padded, strict=True):
        made = [text + new for text, new in zip(made, decoding.feed(ids), strict=True)]
    made = [text + rest for text, rest in zip(made, decoding.end(), strict=True)]
    assert made == [TOKENIZER.decode(list(each)) for each in padded]


def test_an_unfinished_character_waits_and_then_shows():
    first, second = TOKENIZER.encode("é").tolist()
    decoding = TOKENIZER.streams(1)
    assert decoding.feed([first]) == [""]
    assert decoding.feed([second]) == ["é"]
    decoding.feed([first])
    assert decoding.end() == ["\ufffd"]
    assert TOKENIZER.shown(first) == "\\xc3"
    assert TOKENIZER.shown(ord("a")) == "a"
