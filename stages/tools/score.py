"""Score a text: the bits that a trained model needs for it."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from torch import Tensor

from stages.core.compute_params import ComputeParams
from stages.core.device import prepare_device
from stages.core.errors import TextError
from stages.core.files import write_tsv
from stages.core.logs import log, start_log
from stages.core.options import FolioCommand, model_option, output_file_option, tokens_option
from stages.core.text_files import read_text
from stages.generation.prompts import count_unknown, unknown_option
from stages.generation.text_model import TextModel
from stages.models.model_folder import load_model
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.token_files import load_sources, load_tokens


@click.command(name="score", cls=FolioCommand)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@model_option
@output_file_option("--table", "table_path", None, "The file for a table of tokens: position, text, bits, probability.")
@click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="cpu", show_default=True, help="The device."
)
@unknown_option
@click.option(
    "--adaptive",
    is_flag=True,
    help="Learn from the text while reading it, as in adaptive_val_loss; needs a model with n-grams, and --tokens.",
)
@tokens_option
@click.option("--json", "as_json", is_flag=True, help="Print the results as a line of JSON.")
def command(
    file: Path,
    model_folder: Path,
    table_path: Path | None,
    device: Any,  # noqa: ANN401 - as checked by Click
    unknown: Any,  # noqa: ANN401 - an UnknownPolicy, as checked by Click
    adaptive: bool,
    tokens_folder: Path,
    as_json: bool,
) -> None:
    """Print the bits per character of the text in FILE under the model; its first token is not predicted.

    FILE can be - for standard input. Each token after the first block has at least half a block of context. With
    --adaptive, the model counts the training text, and learns from each part of FILE after predicting it, like a
    compressor (adaptive_val_loss in docs/metrics.md).

    Example: folio score data/raw/corpus.txt --table bits.tsv
    """
    start_log("score")
    if table_path and table_path.exists() and file.exists() and table_path.samefile(file):
        raise click.UsageError(f"--table is {table_path}, the text itself; choose another file")
    trained = load_model(model_folder)
    text_model = TextModel(trained, prepare_device(ComputeParams(device=device)))
    text = read_text(file)
    training = (load_tokens(tokens_folder, trained.tokenizer)[0], load_sources(tokens_folder)) if adaptive else ()
    try:
        ids, bits = text_model.token_bits(text, unknown, *training)
    except TextError as error:
        name = "standard input" if str(file) == "-" else file
        raise TextError(f"{name}: {error}") from None
    if unknown_count := count_unknown(text, text_model.tokenizer):
        log.warning("%d of %d characters are outside the vocabulary (--unknown)", unknown_count, len(text))
    characters, size = (int(lengths[ids[1:]].sum()) for lengths in text_model.tokenizer.token_lengths())
    total = float(bits.sum())
    results = {
        "characters": characters,
        "unknown_characters": unknown_count,
        "bits_per_character": total / max(1, characters),
        "bits_per_byte": total / size,
        "nats_per_character": total / max(1, characters) * math.log(2),
        "perplexity": 2 ** (total / len(bits)),
    }
    if table_path:
        columns = ("position", "text", "bits", "probability")
        write_tsv(table_path, columns, token_rows(ids, bits, text_model.tokenizer))
        log.info("wrote a row for each %s to %s", text_model.tokenizer.unit, table_path)
    lines = [f"{name}: {value:.6g}" for name, value in results.items()]
    click.echo(json.dumps(results) if as_json else "\n".join(lines))


def token_rows(ids: Tensor, bits: Tensor, tokenizer: Tokenizer) -> Iterator[tuple[int, str, float, float]]:
    """Yield, for each token but the first, the position of its first character, its text, bits and probability.

    Control characters in the text are escaped.
    """
    characters, _ = tokenizer.token_lengths()
    is_continuation = [tokenizer.is_continuation(token_id) for token_id in ids[1:].tolist()]
    positions = (np.cumsum(characters[ids[:-1]]) - is_continuation).tolist()
    texts = [tokenizer.display(token_id).encode("unicode_escape").decode() for token_id in ids[1:].tolist()]
    yield from zip(positions, texts, bits.tolist(), (2**-bits).tolist(), strict=True)
