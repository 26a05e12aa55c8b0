import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from stages.core.errors import TextError
from stages.tokenize.splitting import Span
from stages.tokenize.token_writer import write_tokens
from stages.tokenizers.char import CharTokenizer
from stages.tokenizers.token_files import Source, check_length, load_sources, load_tokens, on_device

TOKENIZER = CharTokenizer("abc")


def write(folder, tokenizer=TOKENIZER, **tensors) -> None:
    named = {name: np.array(ids, dtype=np.uint8) for name, ids in tensors.items()}
    save_file(named, folder / "tokens.safetensors", {"vocabulary": tokenizer.sum})


def test_ids_keep_their_small_type(tmp_path):
    write(tmp_path, train=[0, 1, 2], val=[2, 1])
    train, val = load_tokens(tmp_path, TOKENIZER)
    assert train.dtype == torch.uint8
    assert (train.tolist(), val.tolist()) == ([0, 1, 2], [2, 1])


def test_ids_of_another_vocabulary_are_refused(tmp_path):
    write(tmp_path, CharTokenizer("abd"), train=[0, 1, 2], val=[1, 1])
    with pytest.raises(TextError, match="another vocabulary than this tokenizer's 3 characters"):
        load_tokens(tmp_path, TOKENIZER)


@pytest.mark.parametrize("characters", ["abc", "".join(map(chr, range(300)))])
def test_what_is_written_in_pieces_is_what_the_library_reads(tmp_path, characters):
    tokenizer = CharTokenizer(characters)
    ids = np.arange(11).astype(tokenizer.dtype) % len(characters)
    first, second, last = Span(0, 5, 2.0), Span(6, 8), Span(8, 12)
    train = [(first, [ids[:3], ids[3:5]]), (second, [ids[5:7]])]
    assert write_tokens(tmp_path, train, [(last, [ids[7:9], ids[9:]])], tokenizer) == (7, 4)
    assert load_sources(tmp_path) == [Source(0, 2.0), Source(5, 1.0)]
    read = load_file(tmp_path / "tokens.safetensors")
    assert (read["train"].dtype, read["train"].tolist(), read["val"].tolist()) == (
        tokenizer.dtype,
        ids[:7].tolist(),
        ids[7:].tolist(),
    )
    mapped = load_tokens(tmp_path, tokenizer)
    assert [part.tolist() for part in mapped] == [ids[:7].tolist(), ids[7:].tolist()]


@pytest.mark.parametrize("damage", [lambda whole: whole[:-1], lambda whole: whole + b"x", lambda whole: b""])  # noqa: ARG005
def test_a_damaged_file_is_named(tmp_path, damage):
    write(tmp_path, train=[0, 1], val=[1, 1])
    path = tmp_path / "tokens.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(TextError, match=r"tokens\.safetensors is damaged"):
        load_tokens(tmp_path, TOKENIZER)


def test_a_missing_file_or_part_is_named(tmp_path):
    with pytest.raises(TextError, match="does not exist; `dvc repro tokenize`"):
        load_tokens(tmp_path, TOKENIZER)
    write(tmp_path, train=[0, 1])
    with pytest.raises(TextError, match="val"):
        load_tokens(tmp_path, TOKENIZER)


@pytest.mark.parametrize(("train", "val", "name"), [(8, 20, "training"), (20, 8, "validation")])
def test_a_text_shorter_than_a_block_says_which_block_size_fits(train, val, name):
    with pytest.raises(TextError, match=f"the {name} part has 8 tokens.*set model.block_size to 7 or less"):
        check_length(torch.zeros(train), torch.zeros(val), block_size=8)
    check_length(torch.zeros(9), torch.zeros(9), block_size=8)


def test_what_only_cpus_can_take_parts_of_is_widened_elsewhere():
    for dtype, elsewhere in ((torch.uint8, torch.uint8), (torch.uint16, torch.int32), (torch.uint32, torch.int32)):
        tokens = torch.tensor([0, 200], dtype=dtype)
        assert on_device(tokens, torch.device("cpu")).dtype == dtype
        assert on_device(tokens, torch.device("meta")).dtype == elsewhere
