import numpy as np
import pytest

from stages.core.errors import TextError
from stages.tokenizers.char import CharTokenizer
from stages.tokenizers.token_files import (
    TokenSource,
    check_length,
    load_sources,
    load_tokens,
    subsample_training_text,
    write_metadata,
    write_tokens,
)

TOKENIZER = CharTokenizer("abc")


def write(folder, tokenizer=TOKENIZER, train=(0, 1, 2), val=(2, 1)) -> None:
    for name, ids in (("train", train), ("val", val)):
        write_tokens(folder / f"{name}.npy", [[np.array(ids, dtype=tokenizer.dtype)]], tokenizer)
    write_metadata(folder, tokenizer, [TokenSource(0, 1.0)])


def test_tokens_keep_their_small_type(tmp_path):
    write(tmp_path)
    train, val = load_tokens(tmp_path, TOKENIZER)
    assert train.dtype == np.uint8
    assert (train.tolist(), val.tolist()) == ([0, 1, 2], [2, 1])
    with pytest.raises(ValueError, match="read-only"):
        train[0] = 1


def test_tokens_of_another_vocabulary_are_refused(tmp_path):
    write(tmp_path, CharTokenizer("abd"))
    with pytest.raises(TextError, match="written by a different tokenizer than this one, which has 3 characters"):
        load_tokens(tmp_path, TOKENIZER)


@pytest.mark.parametrize("characters", ["abc", "".join(map(chr, range(300)))])
def test_a_file_written_in_chunks_is_a_plain_npy_file(tmp_path, characters):
    tokenizer = CharTokenizer(characters)
    ids = np.arange(70_000).astype(tokenizer.dtype) % len(characters)
    spans = [[ids[:3], ids[3:5]], [ids[5:]], []]
    assert write_tokens(tmp_path / "train.npy", spans, tokenizer) == [5, 69_995, 0]
    read = np.load(tmp_path / "train.npy")
    assert (read.dtype, read.tolist()) == (tokenizer.dtype, ids.tolist())


def test_sources_come_back(tmp_path):
    sources = [TokenSource(0, 2.0), TokenSource(5, 1.0)]
    write_metadata(tmp_path, TOKENIZER, sources)
    assert load_sources(tmp_path) == sources


@pytest.mark.parametrize("name", ["train.npy", "val.npy"])
@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:-1], lambda whole: whole + b"x", lambda _: b"", lambda whole: b"x" + whole[1:]]
)
def test_a_damaged_file_is_named(tmp_path, name, damage):
    write(tmp_path)
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TextError, match=rf"{name} is damaged \((?!.*pickle)"):  # no advice to load it unsafely
        load_tokens(tmp_path, TOKENIZER)


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"tokenizer": "x", "sources": [{"begin": 0}]}'])
def test_damaged_metadata_is_named(tmp_path, content):
    write(tmp_path)
    (tmp_path / "tokens.json").write_text(content)
    with pytest.raises(TextError, match=r"tokens\.json is damaged"):
        load_tokens(tmp_path, TOKENIZER)


@pytest.mark.parametrize("name", ["train.npy", "val.npy", "tokens.json"])
def test_a_missing_file_is_named(tmp_path, name):
    write(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(TextError, match=rf"{name} does not exist; run `dvc repro tokenize`"):
        load_tokens(tmp_path, TOKENIZER)


@pytest.mark.parametrize(("train", "val", "name"), [(8, 20, "training"), (20, 8, "validation")])
def test_the_error_for_a_short_text_names_a_block_size_that_fits(train, val, name):
    with pytest.raises(TextError, match=f"block_size is 8, but the {name} part has only 8 tokens; set it to 7 or less"):
        check_length(np.zeros(train, np.uint8), np.zeros(val, np.uint8), block_size=8)
    check_length(np.zeros(9, np.uint8), np.zeros(9, np.uint8), block_size=8)


def test_tokens_outside_the_vocabulary_are_refused(tmp_path):
    write(tmp_path, train=(0, 1, 3))
    with pytest.raises(TextError, match=r"train\.npy is damaged \(token 3 of a vocabulary of 3\)"):
        load_tokens(tmp_path, TOKENIZER)


def test_a_file_without_tokens_is_refused(tmp_path):
    write(tmp_path, train=())
    with pytest.raises(TextError, match=r"train.npy has no tokens; run `dvc repro -f tokenize` to write it again"):
        load_tokens(tmp_path, TOKENIZER)


def test_a_subsample_comes_from_all_over_the_text_and_keeps_its_sources():
    tokens = np.arange(100_000)
    sources = [TokenSource(0, 1.0), TokenSource(50_000, 3.0)]
    part, moved = subsample_training_text(tokens, sources, 6400)
    assert 6200 < len(part) <= 6400
    assert part[:2].tolist() == [0, 1]
    assert part[-1] == 99_999
    assert len(set(part.tolist())) == len(part)
    assert [source.start for source in moved] == [0, int((part < 50_000).sum())]
    assert (part >= 50_000).mean() == pytest.approx(0.75, abs=0.02)
    assert moved[0].weight == pytest.approx(moved[1].weight, rel=0.05)


def test_a_small_source_with_a_large_weight_is_not_lost():
    part, moved = subsample_training_text(np.arange(100_000), [TokenSource(0, 1.0), TokenSource(99_000, 99.0)], 10_000)
    assert (part >= 99_000).sum() == 1_000 - 1_000 % 64
    assert moved[1].weight > 4 * moved[0].weight  # it is sampled as often as the larger one


def test_a_text_that_is_hardly_too_long_is_cut():
    part, _ = subsample_training_text(np.arange(100), [TokenSource(0, 1.0)], 65)
    assert len(part) == 64


def test_a_text_that_is_used_whole_stays_as_it_is():
    tokens, sources = np.arange(100), [TokenSource(0, 1.0), TokenSource(50, 3.0)]
    for max_tokens in (0, 100, 1000):
        part, kept = subsample_training_text(tokens, sources, max_tokens)
        assert part is tokens
        assert kept is sources
