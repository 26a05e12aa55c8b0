"""The token files of a text: train.npy, val.npy and tokens.json, which identifies their tokenizer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
from numpy.lib import format as npy_format
from pydantic import Field, FiniteFloat

from stages.core.errors import TextError
from stages.core.files import read_array, write_json
from stages.core.records import Record, read_record
from stages.tokenizers.base import TokenIds, Tokenizer

SMALL_TEXT = 100_000  # training tokens below which a model can only repeat the text
SUBSAMPLE_PIECES = 64  # of each source
TRAIN, VAL, META = "train.npy", "val.npy", "tokens.json"
HOW_TO_TOKENIZE = "run `dvc repro -f tokenize` to write it again"


@dataclass(frozen=True)
class TokenSource:
    """A source of the training tokens.

    Attributes:
        start: index of its first token.
        weight: how often training samples its tokens, relative to the other sources.
    """

    start: Annotated[int, Field(ge=0)]
    weight: Annotated[FiniteFloat, Field(gt=0.0)]


class TokenMetadata(Record):
    """The content of tokens.json.

    Attributes:
        tokenizer: fingerprint of the tokenizer.
        sources: sources of the training tokens, in order.
    """

    tokenizer: str
    sources: list[TokenSource] = Field(min_length=1)


class TokenWriter:
    """Write a token file whose length is not known in advance.

    The header of the .npy format is padded so that it can be rewritten in place once the length is known.
    """

    def __init__(self, file: BinaryIO, tokenizer: Tokenizer) -> None:
        self.file, self.dtype, self.count = file, tokenizer.dtype, 0
        self._write_header()

    def write(self, ids: TokenIds) -> None:
        """Append token ids, (N,)."""
        self.file.write(np.ascontiguousarray(ids, dtype=self.dtype).data)
        self.count += len(ids)

    def finish(self) -> None:
        """Write the final length into the header."""
        self.file.seek(0)
        self._write_header()

    def _write_header(self) -> None:
        header = {"descr": npy_format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (self.count,)}
        npy_format.write_array_header_1_0(self.file, header)


def write_tokens(path: Path, spans: Iterable[Iterable[TokenIds]], tokenizer: Tokenizer) -> list[int]:
    """Write the tokens of consecutive spans of a text to a .npy file, not atomically.

    Returns:
        the number of tokens in each span.
    """
    counts = []
    with path.open("wb") as file:
        writer = TokenWriter(file, tokenizer)
        for chunks in spans:
            before = writer.count
            for ids in chunks:
                writer.write(ids)
            counts.append(writer.count - before)
        writer.finish()
    return counts


def write_metadata(folder: Path, tokenizer: Tokenizer, sources: list[TokenSource]) -> None:
    """Write tokens.json."""
    write_json(folder / META, TokenMetadata(tokenizer=tokenizer.fingerprint, sources=sources).model_dump())


def load_tokens(folder: Path, tokenizer: Tokenizer) -> tuple[TokenIds, TokenIds]:
    """Return the training and the validation tokens, (N,) each, memory-mapped and read-only.

    Raises:
        TextError: if a file is missing or damaged, or belongs to another tokenizer.
    """
    if _read_metadata(folder).tokenizer != tokenizer.fingerprint:
        raise TextError(
            f"the tokens in {folder} were written by a different tokenizer than this one, which has {len(tokenizer)} "
            f"{tokenizer.unit}s; tokenize and train again"
        )
    return _map_tokens(folder / TRAIN, tokenizer), _map_tokens(folder / VAL, tokenizer)


def load_sources(folder: Path) -> list[TokenSource]:
    """Return the sources of the training tokens, in order.

    Raises:
        TextError: if the metadata is missing or damaged.
    """
    return _read_metadata(folder).sources


def subsample_training_text(
    tokens: TokenIds, sources: Sequence[TokenSource], max_tokens: int
) -> tuple[TokenIds, Sequence[TokenSource]]:
    """Return the part of the training text that a model trains on and counts, (N,), and its sources.

    It consists of pieces from all over each source. A source gets a share in proportion to its length times its
    weight, as training samples it.

    Args:
        tokens: the training text, (M,).
        sources: its sources.
        max_tokens: the largest N; 0: all of the text.
    """
    if not 0 < max_tokens < len(tokens):
        return tokens, sources
    bounds = [*(source.start for source in sources), len(tokens)]
    weighted = [source.weight * (end - source.start) for source, end in zip(sources, bounds[1:], strict=True)]
    pieces, moved, start = [], [], 0
    for source, end, share in zip(sources, bounds[1:], weighted, strict=True):
        quota = min(end - source.start, int(max_tokens * share / sum(weighted)))
        count = max(1, min(SUBSAMPLE_PIECES, quota))
        length = quota // count
        starts = np.linspace(source.start, end - length, count).astype(np.int64)
        pieces += [tokens[first : first + length] for first in starts]
        moved.append(TokenSource(start, share / max(1, count * length)))
        start += count * length
    return np.concatenate(pieces), moved


def check_length(train: TokenIds, val: TokenIds, block_size: int, longer: str = "use a longer text") -> None:
    """Check that both parts hold a window of `block_size` tokens and the token that follows it; `longer` is advice.

    Raises:
        TextError: if a part is too short; the message names the largest block size that fits both.
    """
    name, part = min((("training", train), ("validation", val)), key=lambda pair: len(pair[1]))
    if len(part) > block_size:
        return
    smaller = f"set it to {len(part) - 1} or less, or {longer}" if len(part) > 1 else longer
    raise TextError(f"model.block_size is {block_size}, but the {name} part has only {len(part)} tokens; {smaller}")


def _read_metadata(folder: Path) -> TokenMetadata:
    return read_record(folder / META, TokenMetadata, "tokenize")


def _map_tokens(path: Path, tokenizer: Tokenizer) -> TokenIds:
    ids: TokenIds = read_array(path, "tokenize", "r")
    if ids.dtype != tokenizer.dtype or ids.ndim != 1 or path.stat().st_size != ids.offset + ids.nbytes:  # type: ignore[attr-defined]
        raise TextError(f"{path} is damaged (unexpected type or size); {HOW_TO_TOKENIZE}")
    if not len(ids):
        raise TextError(f"{path} has no tokens; {HOW_TO_TOKENIZE}")
    if len(tokenizer) <= np.iinfo(ids.dtype).max and ids.max(initial=0) >= len(tokenizer):
        raise TextError(f"{path} is damaged (token {ids.max()} of a vocabulary of {len(tokenizer)}); {HOW_TO_TOKENIZE}")
    return ids
