"""Section `tokenize`: the kind of token and the training/validation split."""

from typing import Literal

from pydantic import Field

from stages.core.params import FilePath, Section


class TokenizeParams(Section):
    """What a token is, and how the text is split."""

    kind: Literal["char", "byte", "bpe"] = "char"
    vocab_size: int = Field(default=512, gt=256, le=65536)
    min_count: int = Field(default=0, ge=0)
    tokenizer: FilePath | None = None
    val_fraction: float = Field(default=0.1, gt=0.0, lt=1.0)
