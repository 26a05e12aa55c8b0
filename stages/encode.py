"""tokenize: a text into tensors of ids and a vocabulary.

Not called `tokenize.py`: run as a script beside it, the standard library's module of that name would be shadowed.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import numpy as np

from stages.command import StageCommand, corpus_option, output_folder_option, params_option
from stages.logs import log, progress_bar, start_log
from stages.params.base import read_section
from stages.params.encode import TokenizeParams
from stages.text.reading import DOWNLOAD, read_pieces
from stages.text.splitting import cut_at
from stages.text.storing import starts_path
from stages.text.tokenizer import CharTokenizer, Ids
from stages.text.writing import write_tokens


@click.command(name="tokenize", cls=StageCommand)
@params_option
@corpus_option
@output_folder_option("--tokens", "tokens", "data/tokens", "The folder for the tensors and the vocabulary.")
def command(params_path: Path, corpus_path: Path, tokens: Path) -> None:
    """Turn the text into tensors of character ids and a vocabulary.

    The vocabulary comes from the whole text, sorted by code point; the last part of the text validates, from the
    beginning of a document on where there are several. The text is read twice, in pieces: its size does not matter.

    Example: folio tokenize --corpus data/raw/corpus.txt --tokens data/tokens
    """
    start_log("tokenize")
    params = read_section(params_path, "tokenize", TokenizeParams)
    size = corpus_path.stat().st_size if corpus_path.exists() else 0
    with progress_bar() as progress:
        watched = progress.add_task("tokenize", total=2 * size, note="")

        def pieces() -> Iterator[str]:
            for piece in read_pieces(corpus_path, DOWNLOAD):
                yield piece
                progress.advance(watched, len(piece))

        tokenizer, count = CharTokenizer.of_pieces(pieces())  # counts the characters as well
        if params.vocabulary:
            tokenizer = CharTokenizer.load(Path(params.vocabulary))
        train = cut_at(count, params.val_fraction, corpus_path, document_starts(corpus_path))
        write_tokens(tokens, encoded(pieces(), tokenizer), train, count - train, tokenizer)
    tokenizer.save(tokens / "tokenizer.json")
    log.info("%s: %d to train and %d to validate, vocabulary of %d", tokens, train, count - train, len(tokenizer))
    log.info("next: folio train")


def encoded(pieces: Iterable[str], tokenizer: CharTokenizer) -> Iterator[Ids]:
    """Give the ids of a text in pieces."""
    start = 0
    for piece in pieces:
        yield tokenizer.encode(piece, start)
        start += len(piece)


def document_starts(corpus: Path) -> Ids | None:
    """Give the characters at which documents begin, where that is known."""
    path = starts_path(corpus)
    return np.load(path) if path.exists() else None


if __name__ == "__main__":
    command()
