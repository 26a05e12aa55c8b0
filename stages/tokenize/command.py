"""tokenize: a text into tensors of ids and a vocabulary.

Not called `tokenize.py`: run as a script beside it, the standard library's module of that name would be shadowed.
"""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import click

from stages.core.documents import read_documents
from stages.core.errors import ParameterError
from stages.core.logs import log, progress_bar, start_log, watched
from stages.core.options import StageCommand, corpus_option, output_folder_option, params_option
from stages.core.params import read_section
from stages.core.text_files import DOWNLOAD, read_pieces
from stages.tokenize.params import TokenizeParams
from stages.tokenize.splitting import Span, divide, within
from stages.tokenize.token_writer import write_tokens
from stages.tokenizers.base import Ids, Tokenizer
from stages.tokenizers.bpe import BpeTokenizer
from stages.tokenizers.byte import ByteTokenizer
from stages.tokenizers.char import CharTokenizer
from stages.tokenizers.registry import load_tokenizer

LEARNED = 50_000_000  # characters of the training part that a bpe vocabulary is learned from


@click.command(name="tokenize", cls=StageCommand)
@params_option
@corpus_option
@output_folder_option("--tokens", "tokens", "data/tokens", "The folder for the tensors and the vocabulary.")
def command(params_path: Path, corpus_path: Path, tokens: Path) -> None:
    """Turn the text into tensors of ids and a vocabulary: of characters, of bytes, or of pieces of words.

    Characters are those of the whole text, sorted by code point; pieces of words are learned from the part that trains.
    The last part of the text, or of each of its sources, validates, from the beginning of a document on where there are
    several. The text is read three times or four, in pieces: its size does not matter.

    Example: folio tokenize --corpus data/raw/corpus.txt --tokens data/tokens
    """
    start_log("tokenize")
    params = read_section(params_path, "tokenize", TokenizeParams)
    size = corpus_path.stat().st_size if corpus_path.exists() else 0
    with progress_bar() as progress:
        task = progress.add_task("tokenize", total=(4 if params.kind == "bpe" else 3) * size, note="")

        def pieces() -> Iterator[str]:
            return watched(read_pieces(corpus_path, DOWNLOAD), lambda piece: progress.advance(task, len(piece)))

        tokenizer, count = first_pass(pieces(), params)
        train, val = divide(read_documents(corpus_path), count, params.val_fraction, corpus_path)
        if tokenizer is None:
            learned = chain.from_iterable(text for _, text in within(pieces(), train))
            length = sum(span.end - span.start for span in train)
            tokenizer = BpeTokenizer.of_pieces(spread(learned, length), params.vocabulary_size)
        first, last = (encoded(within(pieces(), spans), tokenizer) for spans in (train, val))
        counts = write_tokens(tokens, first, last, tokenizer)
    tokenizer.save(tokens / "tokenizer.json")
    log.info(
        "%s: %d to train and %d to validate, vocabulary of %d %ss",
        *(tokens, *counts, len(tokenizer), tokenizer.unit),
    )
    log.info("next: folio train")


def first_pass(pieces: Iterable[str], params: TokenizeParams) -> tuple[Tokenizer | None, int]:
    """Give the tokenizer, but for one that is learned from a part of the text, and count the characters.

    Raises:
        ParameterError: where `tokenize.vocabulary` is of another kind.
    """
    tokenizer: Tokenizer | None
    if params.vocabulary:
        tokenizer, count = load_tokenizer(Path(params.vocabulary)), sum(map(len, pieces))
        if tokenizer.kind != params.kind:
            raise ParameterError(
                f"tokenize.vocabulary, {params.vocabulary}, is of kind '{tokenizer.kind}', and tokenize.kind is "
                f"'{params.kind}'; set tokenize.kind: {tokenizer.kind}"
            )
    elif params.kind == "char":
        tokenizer, count = CharTokenizer.of_pieces(pieces, params.min_count)
    else:
        tokenizer, count = ByteTokenizer() if params.kind == "byte" else None, sum(map(len, pieces))
    return tokenizer, count


def spread(pieces: Iterable[str], count: int) -> Iterator[str]:
    """Give a text of `count` characters, or, where it has more than LEARNED, that many from all over it."""
    share = min(1.0, LEARNED / count)
    for piece in pieces:
        yield piece[: round(share * len(piece))]


def encoded(spans: Iterable[tuple[Span, Iterable[str]]], tokenizer: Tokenizer) -> Iterator[tuple[Span, Iterator[Ids]]]:
    """Give the ids of each span of a text."""
    for span, text in spans:
        yield span, tokenizer.encode_pieces(text, span.start)
