"""Folio on many texts, beside general compressors: `python -m benchmarks.any_text [NAME …]`, a minute or two per text.

Every text is tokenized, trained on and evaluated in a folder of its own by the commands of the pipeline, with
params.yaml. The compressors see the training part, then the validation part: their figure is the size of both less the
size of the first. They learn from all text before a byte, so Folio's fair figure beside them is `adaptive_val_loss`.
Everything is in nats per byte of the validation part.

Options: --use tuning|test (default: both), --budget MINUTES, --max-bytes N (skip longer texts). Writes a row per text
to benchmarks/any_text.tsv as soon as it is finished, and the table to benchmarks/any_text.md. Needs the extra `bench`
and, for zpaq, Debian's `zpaq`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from ruamel.yaml import YAML

from benchmarks.compression import conditional_nats, ppmd_size, xz_size, zpaq_size
from benchmarks.texts import FOLDER, BenchmarkText, fetch_text, read_table
from stages.tokenizers.registry import load_tokenizer

ROOT = Path(__file__).parents[1]
ROWS = Path(__file__).with_suffix(".tsv")
LOSSES = ("sliding_val_loss", "adaptive_val_loss", "val_loss", "kneser_ney_val_loss")


def main() -> None:
    """Measure every text that is not in the rows yet, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--use", choices=["tuning", "test"])
    parser.add_argument("--budget", type=float, default=1.0)
    parser.add_argument("--max-bytes", type=int, default=1 << 40)
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows: list[Any] = pd.read_csv(ROWS, sep="\t").to_dict("records") if ROWS.exists() else []
    finished = {(row["name"], row["budget"]) for row in rows if row.get("val_loss")}
    for text in read_table():
        selected = text.name in options.names if options.names else options.use in (None, text.use)
        if not selected or (text.name, options.budget) in finished:
            continue
        path = fetch_text(text)
        if path.stat().st_size <= options.max_bytes:
            rows.append(measure(text, path, options.budget))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(ROWS, sep="\t", index=False, float_format="%.6g")
    table = pd.DataFrame(rows).sort_values(["budget", "bytes"]).round({"seconds": 0, "megabytes": 0})
    formats = ["g" if column in ("budget", "seconds", "megabytes") else ".3f" for column in table.columns]
    table = table.astype(object).where(table.notna(), None)
    ROWS.with_suffix(".md").write_text(table.to_markdown(index=False, floatfmt=formats, missingval="") + "\n")


def measure(text: BenchmarkText, path: Path, budget: float) -> dict[str, Any]:
    """Return the row of a text."""
    row: dict[str, Any] = {"name": text.name, "use": text.use, "bytes": path.stat().st_size, "budget": budget}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row |= run_folio(folder, path, budget)
        train, val = (decode_part(folder, part) for part in ("train", "val"))
    for judge, compress in (("xz", xz_size), ("ppmd", ppmd_size), ("zpaq", zpaq_size)):
        row[judge] = conditional_nats(compress, train, val)
    return row


def run_folio(folder: Path, path: Path, budget: float) -> dict[str, Any]:
    """Tokenize, train and evaluate in a folder, and return the losses in nats per byte and what training took."""
    yaml = YAML()
    document = yaml.load(ROOT / "params.yaml")
    document["budget"] = budget
    yaml.dump(document, folder / "params.yaml")
    (folder / "data/raw").mkdir(parents=True)
    shutil.copy(path, folder / "data/raw/corpus.txt")
    seconds = 0.0
    for stage in ("tokenize", "train", "evaluate"):
        start = time.perf_counter()
        command = [sys.executable, "-m", f"stages.{stage}", "-v"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"note": done.stderr.strip().splitlines()[-1]}
        if stage == "train":
            seconds, output = time.perf_counter() - start, done.stderr
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    per_byte = metrics["val_loss_per_byte"] / metrics["val_loss"]
    config = json.loads((folder / "models/config.json").read_text())
    training = config["training"]
    return {
        "device": training["environment"]["device"],
        **{name: metrics[name] * per_byte for name in LOSSES},
        "steps": training["steps"],
        "parameters": metrics["parameters"],
        "seconds": seconds,
        "megabytes": float(output.rsplit(" MB of memory", 1)[0].rsplit(" ", 1)[1]),
    }


def decode_part(folder: Path, part: str) -> bytes:
    """Return the training or validation part of the tokenized text in UTF-8."""
    tokenizer = load_tokenizer(folder / "data/tokens/tokenizer.json")
    return tokenizer.decode(np.load(folder / f"data/tokens/{part}.npy")).encode()


if __name__ == "__main__":
    main()
