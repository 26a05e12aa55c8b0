"""A tokenizer out of its file, whatever its kind."""

import json
from pathlib import Path

from stages.core.errors import ModelError
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.bpe import BpeTokenizer
from stages.tokenizers.byte import ByteTokenizer
from stages.tokenizers.char import CharTokenizer

KINDS: dict[str, type[CharTokenizer | ByteTokenizer | BpeTokenizer]] = {
    each.kind: each for each in (CharTokenizer, ByteTokenizer, BpeTokenizer)
}


def load_tokenizer(path: Path) -> Tokenizer:
    """Read a tokenizer.json.

    Raises:
        ModelError: where it is missing or holds something else, or its kind needs what is not installed.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return KINDS[document["kind"]].of_document(document)
    except FileNotFoundError:
        raise ModelError(f"{path} does not exist; `dvc repro tokenize` makes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} is not a tokenizer ({error}); make it again") from None
