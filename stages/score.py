"""score: how well a model knows a text."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import click
import torch

from stages.command import StageCommand, model_option, output_file_option
from stages.logs import log, start_log
from stages.measuring.tables import write_tsv
from stages.models.store import load
from stages.text.reading import read_text
from stages.writing.prompts import known_text, unknown_option
from stages.writing.writer import Writer


@click.command(name="score", cls=StageCommand)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@model_option
@output_file_option(
    "--table", "table", None, "A file for a row of each character: position, code point, bits, probability."
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
    """Give the bits per character that a model needs for the text in FILE; the first character is not predicted.

    FILE may be - for standard input. Each character has at least half a block before it, but for the first ones.

    Example: folio score data/raw/corpus.txt --table bits.tsv
    """
    start_log("score")
    writer = Writer(load(model_folder), torch.device(device))
    text = known_text(sys.stdin.read() if str(file) == "-" else read_text(file), writer.tokenizer, unknown)
    bits = writer.bits(text)
    figures = {
        "characters": len(text) - 1,
        "bits_per_character": float(bits.mean()),
        "nats_per_character": float(bits.mean()) * math.log(2),
        "perplexity": 2 ** float(bits.mean()),
    }
    if table:
        rows = zip(range(1, len(text)), map(ord, text[1:]), bits.tolist(), (2**-bits).tolist(), strict=True)
        write_tsv(table, ("position", "code_point", "bits", "probability"), rows)
        log.info("%s holds a row of each character", table)
    click.echo(json.dumps(figures) if as_json else "\n".join(f"{name}: {value:.6g}" for name, value in figures.items()))


if __name__ == "__main__":
    command()
