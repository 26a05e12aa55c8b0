"""Section `tokenize`: the kind of token and the training/validation split."""

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from stages.core.params import Section


class TokenizeParams(Section):
    """What a token is, and how the text is split."""

    kind: Literal["char", "byte", "bpe"] = "char"
    vocab_size: int = Field(default=512, gt=256, le=65536)
    min_count: int = Field(default=0, ge=0)
    tokenizer: str | None = None
    val_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)

    replaced_keys: ClassVar[Mapping[str, str]] = {
        "vocabulary_size": "is now tokenize.vocab_size; rename it",
        "vocabulary": "is now tokenize.tokenizer; rename it",
    }
