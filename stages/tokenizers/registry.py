"""The tokenizers by the name of their kind."""

import json
from pathlib import Path

from stages.core.errors import ModelError
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.bpe import BpeTokenizer
from stages.tokenizers.byte import ByteTokenizer
from stages.tokenizers.char import CharTokenizer

TOKENIZERS: dict[str, type[Tokenizer]] = {cls.kind: cls for cls in (CharTokenizer, ByteTokenizer, BpeTokenizer)}


def load_tokenizer(path: Path) -> Tokenizer:
    """Return the tokenizer that a tokenizer.json describes.

    Raises:
        ModelError: if the file is missing or not a tokenizer, or a library that it needs is not installed.
    """
    try:
        return parse_tokenizer(path.read_bytes(), path)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; run `dvc repro tokenize` to write it") from None


def parse_tokenizer(content: bytes, path: Path) -> Tokenizer:
    """Return the tokenizer that the content of a tokenizer.json describes; `path` is for error messages.

    Raises:
        ModelError: as `load_tokenizer`.
    """
    try:
        document = json.loads(content)
        return TOKENIZERS[document["kind"]].from_dict(document)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is not a tokenizer ({error}); write it again with `dvc repro -f tokenize`") from None
