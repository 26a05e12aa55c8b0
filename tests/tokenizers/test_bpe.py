import builtins
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import ModelError
from stages.tokenizers import bpe
from stages.tokenizers.bpe import BpeTokenizer, byte_alphabet, split_at_words
from tests.conftest import make_text

pytest.importorskip("tokenizers")
TEXT = make_text(20_000) + " Ähre 水 😀 don't\n\n  stop" * 3
TOKENIZER = BpeTokenizer.from_chunks([TEXT], 320)
ODD = [" ", "\n", "\t", "a", "don't", "Ähre", "水", "😀", "1", "..", "\x1c", "\x85", "the ", "\r\n"]


@given(st.text())
def test_decode_is_the_inverse_of_encode(text: str):
    ids = TOKENIZER.encode(text)
    assert TOKENIZER.decode(ids) == text
    characters, size = TOKENIZER.token_lengths()
    assert (characters[ids].sum(), size[ids].sum()) == (len(text), len(text.encode()))


long = st.lists(st.sampled_from(ODD), min_size=20, max_size=60).map("".join)


@given(st.lists(long, min_size=1, max_size=4), st.integers(1, 9))
def test_pieces_have_the_ids_of_the_whole(pieces: list[str], size: int):
    parts = list(split_at_words(pieces, size))
    assert "".join(parts) == "".join(pieces)
    assert all(len(part) >= size for part in parts[:-1])
    ids = [token_id for part in parts for token_id in TOKENIZER.hf_tokenizer.encode(part).ids]
    assert ids == TOKENIZER.hf_tokenizer.encode("".join(pieces)).ids


def test_a_long_text_is_cut_into_many_parts(monkeypatch):
    whole = TOKENIZER.hf_tokenizer.encode(TEXT).ids
    monkeypatch.setattr(bpe, "PART_CHARACTERS", 50)
    pieces = [TEXT[start : start + 777] for start in range(0, len(TEXT), 777)]
    assert len(list(split_at_words(pieces, 50))) > 1000
    assert np.concatenate(list(TOKENIZER.encode_chunks(pieces))).tolist() == whole


def test_scripts_without_spaces_are_cut_all_the_same(monkeypatch):
    monkeypatch.setattr(bpe, "MAX_BOUNDARY_DISTANCE", 100)
    parts = list(split_at_words(["水" * 333, "水" * 500, "水\r\n水"], 40))
    assert [len(part) for part in parts] == [140] * 5 + [134, 3]
    assert (
        TOKENIZER.decode([token_id for part in parts for token_id in TOKENIZER.encode(part)]) == "水" * 834 + "\r\n水"
    )


def test_the_vocabulary_has_the_requested_size_and_shortens_the_text():
    assert len(TOKENIZER) == 320
    assert TOKENIZER.dtype == np.uint16
    assert [TOKENIZER.token_bytes[byte] for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert len(TOKENIZER.encode(TEXT)) < 0.6 * len(TEXT)
    assert len(BpeTokenizer.from_chunks(["aaaa"], 400)) < 400  # as many as there are


def test_learning_is_the_same_every_time_and_whatever_the_pieces(tmp_path):
    again = BpeTokenizer.from_chunks([TEXT[:777], TEXT[777:9999], TEXT[9999:]], 320)
    assert again.fingerprint == TOKENIZER.fingerprint


def test_the_file_says_everything(tmp_path):
    TOKENIZER.save(tmp_path / "tokenizer.json")
    document = json.loads((tmp_path / "tokenizer.json").read_text())
    assert document["kind"] == "bpe"
    again = BpeTokenizer.from_dict(document)
    assert again.token_bytes == TOKENIZER.token_bytes
    assert again.encode(TEXT).tolist() == TOKENIZER.encode(TEXT).tolist()


def test_bytes_are_spelled_as_the_library_spells_them():
    from tokenizers.pre_tokenizers import ByteLevel

    assert sorted(byte_alphabet()) == sorted(ByteLevel.alphabet())
    every = "".join(map(chr, range(0x250))) + "水😀"
    spelled = "".join(word for word, _ in ByteLevel(add_prefix_space=False).pre_tokenize_str(every))
    assert spelled == "".join(byte_alphabet()[byte] for byte in every.encode())


def test_without_the_library_the_error_names_what_to_install(monkeypatch):
    whole = builtins.__import__

    def without(name, *rest):
        if name == "tokenizers":
            raise ImportError
        return whole(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ModelError, match=r"pip install -e '\.\[bpe\]'"):
        BpeTokenizer.from_chunks([TEXT], 300)


def test_a_text_without_spaces_is_learned_in_words_of_bounded_length():
    tokenizer = BpeTokenizer.from_chunks(["ab" * 5000], 300)
    assert max(map(len, tokenizer.token_bytes)) == 256
    text = "ab" * 300 + " " + "c" * 300
    assert tokenizer.decode(tokenizer.encode(text)) == text
