"""tokenize: a text into tensors of ids and a vocabulary.

Not called `tokenize.py`: run as a script beside it, the standard library's module of that name would be shadowed.
"""

from pathlib import Path

import click
from safetensors.numpy import save

from stages import files
from stages.command import StageCommand, corpus_option, output_folder_option, params_option
from stages.logs import log, start_log
from stages.params.base import read_section
from stages.params.encode import TokenizeParams
from stages.text.reading import read_text
from stages.text.splitting import split
from stages.text.tokenizer import CharTokenizer


@click.command(name="tokenize", cls=StageCommand)
@params_option
@corpus_option
@output_folder_option("--tokens", "tokens", "data/tokens", "The folder for the tensors and the vocabulary.")
def command(params_path: Path, corpus_path: Path, tokens: Path) -> None:
    """Turn the text into tensors of character ids and a vocabulary.

    The vocabulary comes from the whole text, sorted by code point; the last part of the text validates.

    Example: folio tokenize --corpus data/raw/corpus.txt --tokens data/tokens
    """
    start_log("tokenize")
    params = read_section(params_path, "tokenize", TokenizeParams)
    text = read_text(corpus_path)
    tokenizer = CharTokenizer.load(Path(params.vocabulary)) if params.vocabulary else CharTokenizer.of(text)
    train, val = split(tokenizer.encode(text), params.val_fraction, corpus_path)
    files.write_bytes(tokens / "tokens.safetensors", save({"train": train, "val": val}))
    tokenizer.save(tokens / "tokenizer.json")
    log.info("%s: %d to train and %d to validate, vocabulary of %d", tokens, len(train), len(val), len(tokenizer))


if __name__ == "__main__":
    command()
