"""score: how well a model knows a text."""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor

from stages.core.files import write_tsv
from stages.core.logs import log, start_log
from stages.core.options import StageCommand, model_option, output_file_option
from stages.core.text_files import read_text
from stages.generation.prompts import known_text, unknown_option
from stages.generation.text_model import Writer
from stages.models.model_folder import load
from stages.tokenizers.base import Tokenizer


@click.command(name="score", cls=StageCommand)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@model_option
@output_file_option(
    "--table", "table", None, "A file for a row of each token: its first character's position, text, bits, probability."
)
@click.option("--device", default="cpu", show_default=True, help="Where to work it out: cpu, cuda or mps.")
@unknown_option
@click.option("--json", "as_json", is_flag=True, help="The figures as a line of JSON.")
def command(
    file: Path,
    model_folder: Path,
    table: Path | None,
    device: str,
    unknown: Any,  # noqa: ANN401 - one of `Unknown`, as click checked
    as_json: bool,
) -> None:
    """Give the bits per character that a model needs for the text in FILE; its first token is not predicted.

    FILE may be - for standard input. A token is a character, or what tokenize.kind says. Each has at least half a block
    before it, but for the first ones.

    Example: folio score data/raw/corpus.txt --table bits.tsv
    """
    start_log("score")
    writer = Writer(load(model_folder), torch.device(device))
    text = known_text(sys.stdin.read() if str(file) == "-" else read_text(file), writer.tokenizer, unknown)
    ids, bits = writer.bits(text)
    characters, size = (int(each[ids[1:]].sum()) for each in writer.tokenizer.lengths())
    total = float(bits.sum())
    figures = {
        "characters": characters,
        "bits_per_character": total / max(1, characters),
        "bits_per_byte": total / size,
        "nats_per_character": total / max(1, characters) * math.log(2),
        "perplexity": 2 ** (total / len(bits)),
    }
    if table:
        write_tsv(table, ("position", "text", "bits", "probability"), rows(ids, bits, writer.tokenizer))
        log.info("%s holds a row of each %s", table, writer.tokenizer.unit)
    click.echo(json.dumps(figures) if as_json else "\n".join(f"{name}: {value:.6g}" for name, value in figures.items()))


def rows(ids: Tensor, bits: Tensor, tokenizer: Tokenizer) -> Iterator[tuple[int, str, float, float]]:
    """Give each token but the first: where in the text it begins, what it is (escaped), its bits and probability."""
    characters, _ = tokenizer.lengths()
    inside = [tokenizer.goes_on(each) for each in ids[1:].tolist()]  # of a character that the token before began
    starts = (np.cumsum(characters[ids[:-1]]) - inside).tolist()
    texts = [tokenizer.shown(each).encode("unicode_escape").decode() for each in ids[1:].tolist()]
    yield from zip(starts, texts, bits.tolist(), (2**-bits).tolist(), strict=True)
