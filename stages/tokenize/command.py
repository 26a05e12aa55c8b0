"""The tokenize stage: convert a text to token files and a tokenizer."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from pathlib import Path

import click
import numpy as np

from stages.core.documents import read_documents
from stages.core.errors import ParameterError
from stages.core.files import atomic_write
from stages.core.logs import log, progress_bar, start_log, track_progress
from stages.core.options import FolioCommand, corpus_option, output_folder_option, params_option
from stages.core.params import read_section
from stages.core.project import log_next_steps, missing_file_hint
from stages.core.text_files import HOW_TO_DOWNLOAD, read_chunks
from stages.tokenize.params import TokenizeParams
from stages.tokenize.splitting import Span, read_spans, split_sources
from stages.tokenizers.base import TokenIds, Tokenizer
from stages.tokenizers.bpe import BpeTokenizer
from stages.tokenizers.byte import ByteTokenizer
from stages.tokenizers.char import UNKNOWN_CHARACTER, CharTokenizer
from stages.tokenizers.prompt_check import check_prompts
from stages.tokenizers.registry import load_tokenizer
from stages.tokenizers.token_files import TRAIN, VAL, TokenSource, load_tokens, write_metadata, write_tokens

MUCH_UNKNOWN = 0.02  # share of the text
MAX_BPE_CHARACTERS = 50_000_000  # of the training part, to learn BPE merges from


@click.command(name="tokenize", cls=FolioCommand)
@params_option
@corpus_option
@output_folder_option("--tokens", "tokens_folder", "data/tokens", "The folder for the token files and the tokenizer.")
def command(params_path: Path, corpus_path: Path, tokens_folder: Path) -> None:
    """Convert the text to tokens: characters, bytes or byte pairs (BPE).

    With `char`, the vocabulary is the characters of the whole text, sorted by code point; with `bpe`, the merges are
    learned from the training part. The end of each source is for validation; it begins with a document if possible. The
    text is read in chunks, three or four times, so it may be larger than memory.

    Example: folio tokenize --corpus data/raw/corpus.txt --tokens data/tokens
    """
    start_log("tokenize")
    params = read_section(params_path, "tokenize", TokenizeParams)
    size = corpus_path.stat().st_size if corpus_path.exists() else 0
    with progress_bar() as progress:
        task = progress.add_task("tokenize", total=(4 if params.kind == "bpe" else 3) * size, note="")

        def chunks() -> Iterator[str]:
            reader = read_chunks(corpus_path, HOW_TO_DOWNLOAD)
            return track_progress(reader, lambda chunk: progress.advance(task, len(chunk.encode())))

        tokenizer, length = scan_text(chunks(), params)
        train, val = split_sources(read_documents(corpus_path), length, params.val_fraction, corpus_path)
        if tokenizer is None:
            training_text = chain.from_iterable(read_spans(chunks(), train))
            training_length = sum(span.end - span.start for span in train)
            tokenizer = BpeTokenizer.from_chunks(subsample(training_text, training_length), params.vocab_size)
            if len(tokenizer) < params.vocab_size:
                wanted, found = params.vocab_size, len(tokenizer)
                log.warning("tokenize.vocab_size is %d, but BPE finds only %d tokens in the text", wanted, found)
        check_prompts(params_path, tokenizer)
        # Both are written before either replaces the tokens of another text.
        with atomic_write(tokens_folder / TRAIN) as train_path, atomic_write(tokens_folder / VAL) as val_path:
            train_counts = write_tokens(train_path, encode_spans(chunks(), train, tokenizer), tokenizer)
            val_counts = write_tokens(val_path, encode_spans(chunks(), val, tokenizer), tokenizer)
    share = sum(span.end - span.start for span in val) / length
    starts = [0, *accumulate(train_counts)]
    sources = [TokenSource(start, span.weight) for start, span in zip(starts, train, strict=False)]
    write_metadata(tokens_folder, tokenizer, sources)
    tokenizer.save(tokens_folder / "tokenizer.json")
    if isinstance(tokenizer, CharTokenizer) and tokenizer.has_unknown:
        report_unknown(tokens_folder, tokenizer)
    log.info(
        "%s: %d training and %d validation tokens (%.1f %% of the text), vocabulary of %d %ss",
        *(tokens_folder, sum(train_counts), sum(val_counts), 100 * share),
        *(len(tokenizer), tokenizer.unit),
    )
    log_next_steps("tokenize", tokens_folder, "folio train")


def report_unknown(tokens_folder: Path, tokenizer: CharTokenizer) -> None:
    """Log how much of the text is encoded as the unknown character; a warning if that is much."""
    unknown_id = tokenizer.characters.index(UNKNOWN_CHARACTER)
    parts = load_tokens(tokens_folder, tokenizer)
    share = sum(int(np.count_nonzero(part == unknown_id)) for part in parts) / sum(map(len, parts))
    level = logging.WARNING if share > MUCH_UNKNOWN else logging.INFO
    log.log(level, "%.2f %% of the characters are encoded as %s (tokenize.min_count)", 100 * share, UNKNOWN_CHARACTER)


def scan_text(chunks: Iterable[str], params: TokenizeParams) -> tuple[Tokenizer | None, int]:
    """Return the tokenizer, or None if it is to be learned from the training part, and the length of the text.

    Raises:
        ParameterError: if `tokenize.tokenizer` names a tokenizer of another kind.
    """
    if params.tokenizer:
        if not Path(params.tokenizer).is_file():
            raise ParameterError(
                f"tokenize.tokenizer is {params.tokenizer}, which is not a file; set it to the tokenizer.json of a "
                f"model{missing_file_hint()}"
            )
        tokenizer = load_tokenizer(Path(params.tokenizer))
        if tokenizer.kind != params.kind:
            raise ParameterError(
                f"tokenize.tokenizer is {params.tokenizer}, a tokenizer of kind '{tokenizer.kind}', but tokenize.kind "
                f"is '{params.kind}'; set tokenize.kind: {tokenizer.kind}"
            )
        return tokenizer, sum(map(len, chunks))
    if params.kind == "char":
        return CharTokenizer.from_chunks(chunks, params.min_count)
    return ByteTokenizer() if params.kind == "byte" else None, sum(map(len, chunks))


def subsample(chunks: Iterable[str], length: int) -> Iterator[str]:
    """Yield a text of `length` characters, reduced to MAX_BPE_CHARACTERS by keeping the beginning of each chunk."""
    share = min(1.0, MAX_BPE_CHARACTERS / length)
    for chunk in chunks:
        yield chunk[: round(share * len(chunk))]


def encode_spans(chunks: Iterable[str], spans: Sequence[Span], tokenizer: Tokenizer) -> Iterator[Iterator[TokenIds]]:
    """Yield the token ids of each span of a text, in chunks."""
    for span, text in zip(spans, read_spans(chunks, spans), strict=True):
        yield tokenizer.encode_chunks(text, span.start)
