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
        document = json.loads(path.read_text(encoding="utf-8"))
        return TOKENIZERS[document["kind"]].from_dict(document)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; `dvc repro tokenize` writes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a tokenizer ({error}); write it again with `dvc repro -f tokenize`") from None
