"""Folio on many texts, beside general compressors: `python -m benchmarks.any_text [NAME …]`, a minute or two per text.

Every text is tokenized, trained on and evaluated in a folder of its own by the commands of the pipeline, with
params.yaml and, for the column `fixed`, with the fixed settings of version 0.1. The compressors see the training part,
then the validation part: their figure is the size of both less the size of the first. They learn from all text before a
byte, so Folio's fair figure beside them is `adaptive_val_loss` (column `adaptive`); `folio` is `sliding_val_loss`, and
`blockwise` is `val_loss`. Everything is in nats per byte of the validation part.

Options: --use tuning|final (default: both), --budget MINUTES, --fixed (also train with the fixed settings),
--max-bytes N (skip longer texts). Writes a row per text to benchmarks/any_text.tsv as soon as it is finished, and the
table to benchmarks/any_text.md. Needs the extra `bench` and, for zpaq, Debian's `zpaq`.
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
# Version 0.1.
FIXED: dict[str, dict[str, Any]] = {
    "model": {
        "block_size": 2048, "n_layer": 2, "n_head": 4, "n_embd": 128, "dropout": 0.0, "sliding_window": 64,
        "prior": "kneser_ney", "ngram_order": 7, "cross_fit_folds": 10, "cache_lm": True,
    },
    "train": {
        "max_steps": 1200, "batch_size": 1, "lr": 0.02, "lr_embedding": 0.02, "lr_head": 0.003, "weight_decay": 0.0,
        "warmup_steps": 20, "eval_every": 100, "max_tokens": 0, "ema_decay": 0.0,
    },
}  # fmt: skip


def main() -> None:
    """Measure every text that is not in the rows yet, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--use", choices=["tuning", "final"])
    parser.add_argument("--budget", type=float, default=1.0)
    parser.add_argument("--max-bytes", type=int, default=1 << 40)
    parser.add_argument("--fixed", action="store_true")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows: list[Any] = pd.read_csv(ROWS, sep="\t").to_dict("records") if ROWS.exists() else []
    finished = {(row["name"], row["budget"]) for row in rows if row.get("folio")}
    for text in read_table():
        selected = text.name in options.names if options.names else options.use in (None, text.use)
        if not selected or (text.name, options.budget) in finished:
            continue
        path = fetch_text(text)
        if path.stat().st_size <= options.max_bytes:
            rows.append(measure(text, path, options.budget, with_fixed=options.fixed))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(ROWS, sep="\t", index=False, float_format="%.6g")
    table = pd.DataFrame(rows).sort_values(["budget", "bytes"]).round({"seconds": 0, "megabytes": 0})
    formats = ["g" if column in ("budget", "seconds", "megabytes") else ".3f" for column in table.columns]
    table = table.astype(object).where(table.notna(), None)
    ROWS.with_suffix(".md").write_text(table.to_markdown(index=False, floatfmt=formats, missingval="") + "\n")


def measure(text: BenchmarkText, path: Path, budget: float, with_fixed: bool) -> dict[str, Any]:
    """Return the row of a text."""
    row: dict[str, Any] = {"name": text.name, "use": text.use, "bytes": path.stat().st_size, "budget": budget}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        row |= run_folio(folder, path, budget, {})
        train, val = (decode_part(folder, part) for part in ("train", "val"))
    for judge, compress in (("xz", xz_size), ("ppmd", ppmd_size), ("zpaq", zpaq_size)):
        row[judge] = conditional_nats(compress, train, val)
    if with_fixed:
        with tempfile.TemporaryDirectory() as name:
            row["fixed"] = run_folio(Path(name), path, budget, FIXED).get("folio")
    return row


def run_folio(folder: Path, path: Path, budget: float, sections: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Tokenize, train and evaluate in a folder, and return the losses in nats per byte and what training took."""
    yaml = YAML()
    document = yaml.load(ROOT / "params.yaml")
    document["budget"] = budget
    for section, values in sections.items():
        document[section].update(values)
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
        "folio": metrics["sliding_val_loss"] * per_byte,
        "adaptive": metrics["adaptive_val_loss"] * per_byte,
        "blockwise": metrics["val_loss"] * per_byte,
        "kneser_ney": metrics["kneser_ney_val_loss"] * per_byte,
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
