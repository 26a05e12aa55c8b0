"""tokenize: a text into tensors of ids and a vocabulary.

Not called `tokenize.py`: run as a script beside it, the standard library's module of that name would be shadowed.
"""

from pathlib import Path

import click
from safetensors.numpy import save_file

from stages import files
from stages.command import StageCommand, corpus_option, params_option, tokens_option
from stages.errors import TextError
from stages.logs import log, start_log
from stages.params.base import read_section
from stages.params.encode import TokenizeParams
from stages.text.reading import read_text
from stages.text.tokenizer import CharTokenizer, Ids


@click.command(name="tokenize", cls=StageCommand)
@params_option
@corpus_option
@tokens_option
def command(params_path: Path, corpus_path: Path, tokens: Path) -> None:
    """Turn the text into tensors of character ids and a vocabulary.

    The vocabulary comes from the whole text, sorted by code point; the last part of the text validates.

    Example: folio tokenize --corpus data/raw/corpus.txt --tokens data/tokens
    """
    start_log("tokenize")
    params = read_section(params_path, "tokenize", TokenizeParams)
    text = read_text(corpus_path)
    tokenizer = CharTokenizer.of(text)
    train, val = split(tokenizer.encode(text), params.val_fraction, corpus_path)
    with files.replacing(tokens / "tokens.safetensors") as temporary:
        save_file({"train": train, "val": val}, temporary)
    tokenizer.save(tokens / "tokenizer.json")
    log.info("%s: %d to train and %d to validate, vocabulary of %d", tokens, len(train), len(val), len(tokenizer))


def split(ids: Ids, val_fraction: float, path: Path) -> tuple[Ids, Ids]:
    """Cut `ids` into the first part, to train, and the last `val_fraction`, to validate.

    Raises:
        TextError: where a part would hold fewer than two characters, so that nothing could be predicted.
    """
    cut = int((1 - val_fraction) * len(ids))
    train, val = ids[:cut], ids[cut:]
    if min(len(train), len(val)) < 2:
        raise TextError(
            f"{path} has {len(ids)} characters: divided at tokenize.val_fraction = {val_fraction}, {len(train)} train "
            f"and {len(val)} validate, and both need 2 or more; give a longer text"
        )
    return train, val


if __name__ == "__main__":
    command()
