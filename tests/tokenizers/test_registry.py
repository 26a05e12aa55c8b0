import pytest

from stages.core.errors import ModelError
from stages.tokenizers.byte import ByteTokenizer
from stages.tokenizers.registry import load_tokenizer


def test_the_kind_is_read_from_the_file(tmp_path):
    ByteTokenizer().save(tmp_path / "tokenizer.json")
    assert isinstance(load_tokenizer(tmp_path / "tokenizer.json"), ByteTokenizer)


@pytest.mark.parametrize(
    "content", ["", "{}", '{"kind": "bpe"}', '{"kind": "x"}', '{"kind": "char", "characters": ["ab"]}', "[1]"]
)
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json is not a tokenizer"):
        load_tokenizer(path)


def test_the_error_for_a_missing_tokenizer_names_the_command(tmp_path):
    with pytest.raises(ModelError, match="dvc repro tokenize"):
        load_tokenizer(tmp_path / "tokenizer.json")
