"""Folio beside general compressors on any text: `python -m benchmarks.compressors FILE …`, minutes per text.

The compressors see the training part, then the validation part: their figure is the size of both less the size of the
first. They learn from all text before a byte, so Folio's fair figure beside them is `adaptive_val_loss`. Writes
benchmarks/compressors.json and .md. Needs the extra `bench` and, for zpaq, Debian's `zpaq`.

--command adds a program, such as paq8px or cmix: --command "paq8px -8 {input} {output}".
"""

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from math import log
from pathlib import Path
from typing import Any

import click
import pandas as pd

from benchmarks.any_text import decode_part, run_folio
from benchmarks.compression import PROGRAMS
from benchmarks.results import read_conditions, write_results

FORMATS = {"bits per character": "{:.3f}", "nats per byte": "{:.3f}", "seconds": "{:.1f}", "peak MB": "{:.0f}"}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--command", "commands", multiple=True, help="Of another compressor, with {input} and {output}.")
def main(files: tuple[Path, ...], commands: tuple[str, ...]) -> None:
    """Measure every program on every text, and write the table after each text."""
    for program in ("zpaq", *(shlex.split(command)[0] for command in commands)):
        if shutil.which(program) is None:
            raise click.ClickException(f"{program} was not found; install it, or name its path")
    conditions, rows = read_conditions(), list[dict[str, Any]]()
    for file in files:
        with tempfile.TemporaryDirectory() as name:
            rows += measure(file, Path(name), (*PROGRAMS, *commands))
        table = write_results("compressors", conditions, pd.DataFrame(rows), formats=FORMATS)
    print(table)


def measure(file: Path, folder: Path, programs: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the rows of a text: of Folio and of each program.

    Args:
        file: the text.
        folder: an empty one to work in.
        programs: see `compression.py`.
    """
    result = run_folio(folder, file, 1.0)
    if "val_loss" not in result:
        raise click.ClickException(f"{file}: {result['note']}")
    measured = {
        "Folio": {
            "nats per byte": result["adaptive_val_loss"],
            "seconds": result["seconds"],
            "peak MB": result["megabytes"],
        }
    }
    parts = {part: decode_part(folder, part) for part in ("train", "val")}
    for part, content in parts.items():
        (folder / part).write_bytes(content)
    for program in programs:
        command = [sys.executable, "-m", "benchmarks.compression", program, *(str(folder / part) for part in parts)]
        measured[program] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    bytes_per_character = len(parts["val"]) / len(parts["val"].decode())
    return [
        {"text": file.stem, "program": program}
        | {"bits per character": figures["nats per byte"] * bytes_per_character / log(2)}
        | figures
        for program, figures in measured.items()
    ]


if __name__ == "__main__":
    main()
