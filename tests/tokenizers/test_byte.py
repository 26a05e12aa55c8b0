from hypothesis import given
from hypothesis import strategies as st

from stages.tokenizers.byte import ByteTokenizer

TOKENIZER = ByteTokenizer()


@given(st.text())
def test_every_text_is_its_bytes_and_back(text: str):
    ids = TOKENIZER.encode(text)
    assert bytes(ids) == text.encode()
    assert TOKENIZER.decode(ids) == text
    characters, size = TOKENIZER.token_lengths()
    assert (characters[ids].sum(), size[ids].sum()) == (len(text), len(text.encode()))


@given(st.lists(st.text(max_size=5), min_size=1, max_size=4), st.integers(0, 3))
def test_texts_side_by_side_come_out_byte_by_byte(texts: list[str], cut: int):
    encoded = [text.encode()[: len(text.encode()) - cut] for text in texts]  # the last character may be in pieces
    length = max(map(len, encoded))
    padded = [content.ljust(length, b".") for content in encoded]
    decoding = TOKENIZER.stream_decoder(len(texts))
    made = [""] * len(texts)
    for ids in zip(*padded, strict=True):
        made = [text + new for text, new in zip(made, decoding.decode_next(ids), strict=True)]
    made = [text + rest for text, rest in zip(made, decoding.flush(), strict=True)]
    assert made == [TOKENIZER.decode(list(content)) for content in padded]


def test_an_unfinished_character_waits_and_then_shows():
    first, second = TOKENIZER.encode("é").tolist()
    decoding = TOKENIZER.stream_decoder(1)
    assert decoding.decode_next([first]) == [""]
    assert decoding.decode_next([second]) == ["é"]
    decoding.decode_next([first])
    assert decoding.flush() == ["\ufffd"]
    assert TOKENIZER.display(first) == "\\xc3"
    assert TOKENIZER.display(ord("a")) == "a"
