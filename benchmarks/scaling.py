"""Measure what grows with the text and the processes: `python -m benchmarks.scaling`, several minutes on two cores.

1. `folio tokenize` with every tokenizer, on texts of 1, 10 and 200 MB (random lines of the current text): seconds, MB
   per second, and the largest resident memory of its process.
2. The memory of n-gram counts, with and without cross-fitting, on 1 and 4 MB of this text and Python's library, with
   characters and with a BPE vocabulary of 2,048 tokens.
3. The time of a training step with one process of one thread, one of two threads, and two of one thread, on batches
   of eight windows: medians of three runs, without imports and counting.

Writes benchmarks/scaling.md. Needs tokens (`dvc repro tokenize`) and the extra `bench`.
"""

import os
import random
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from benchmarks.results import read_conditions, write_results

ROOT = Path(__file__).parent.parent
KINDS, SIZES = ("char", "byte", "bpe"), (1, 10, 200)
STEPS, RUNS = (20, 60), 3
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


def tokenize(kind: str, megabytes: int, lines: list[str]) -> dict[str, str]:
    """Write a text of that many megabytes, and tokenize it in a new process."""
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "data/raw").mkdir(parents=True)
        document = YAML().load(ROOT / "params.yaml")
        document["tokenize"]["kind"] = kind
        YAML().dump(document, folder / "params.yaml")
        with (folder / "data/raw/corpus.txt").open("w") as file:
            while file.tell() < megabytes * 1_000_000:
                file.write("".join(draw.choices(lines, k=1000)))
        start = time.perf_counter()
        command = [sys.executable, "-m", "stages.tokenize", "-v"]
        done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True, text=True)
        total = time.perf_counter() - start
    match = re.search(r"took ([\d.]+) s and (\d+) MB", done.stderr)
    assert match, done.stderr
    seconds = max(float(match[1]), 0.05)
    return {
        "kind": kind,
        "text, MB": str(megabytes),
        "seconds": match[1],
        "MB per second": f"{megabytes / seconds:.0f}",
        "with start-up, s": f"{total:.1f}",
        "peak MB": match[2],
    }


COUNT = """
import sys
import torch
from pathlib import Path
from stages.core.logs import peak_memory
from stages.models.kneser_ney import KneserNey
from stages.core.params import read_section
from stages.models.params import ModelParams
from stages.tokenizers.bpe import BpeTokenizer
from stages.tokenizers.char import CharTokenizer
from stages.models.ngram.cross_fitting import CrossFittedExperts

text, order = Path(sys.argv[1]).read_text(), int(sys.argv[2])
params = ModelParams(ngram_order=order)
tokenizer = CharTokenizer.from_text(text) if sys.argv[4] == "char" else BpeTokenizer.from_chunks([text], 2048)
ids = torch.from_numpy(tokenizer.encode(text).astype("int64"))
before = peak_memory()
levels = KneserNey(params, len(tokenizer)).count(ids)
counted = peak_memory()
CrossFittedExperts(levels, len(tokenizer), params.cross_fit_folds, params.cache_lm)
for value in (counted, peak_memory()):
    print((value - before) * 2**20 / len(ids))
"""


def count(kind: str, megabytes: int, order: int, text: str) -> dict[str, str]:
    """Count the n-grams of a text in a new process, and return the bytes per token."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "text.txt"
        path.write_text(text[: megabytes * 1_000_000], encoding="utf-8")
        command = [sys.executable, "-c", COUNT, str(path), str(order), str(ROOT / "params.yaml"), kind]
        printed = subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout.split()
    return {
        "kind": kind,
        "text, MB": str(megabytes),
        "ngram_order": str(order),
        "counts, bytes per token": f"{float(printed[0]):.0f}",
        "with cross-fitting": f"{float(printed[1]):.0f}",
    }


def step_seconds(threads: int, processes: int) -> float:
    """Train for few and for more steps, and return the time of an additional step."""
    document = YAML().load(ROOT / "params.yaml")
    document["compute"] |= {"threads": threads, "precision": "float32"}
    document["model"] |= {"prior": "none", "block_size": 256}
    document["train"] |= {"batch_size": 8, "processes": processes, "eval_every": 1000}
    document["runtime"]["checkpoint_every_seconds"] = 1000.0
    seconds = []
    for steps in STEPS:
        document["train"]["max_steps"] = steps
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            YAML().dump(document, folder / "params.yaml")
            tokens = ["--tokens", str(ROOT / "data/tokens")]
            start = time.perf_counter()
            command = [sys.executable, "-m", "stages.train", *tokens]
            subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
            seconds.append(time.perf_counter() - start)
    return (seconds[1] - seconds[0]) / (STEPS[1] - STEPS[0])


def main() -> None:
    """Write and print the tables."""
    conditions = read_conditions()
    corpus = (ROOT / "data/raw/corpus.txt").read_text(encoding="utf-8")
    texts = pd.DataFrame([tokenize(kind, size, corpus.splitlines(keepends=True)) for kind in KINDS for size in SIZES])
    library = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    mixed = corpus + "".join(path.read_text(encoding="utf-8") for path in library)
    counts = pd.DataFrame(
        [count(*case, mixed) for case in (("char", 1, 7), ("char", 4, 7), ("char", 4, 4), ("bpe", 4, 7))]
    )
    rows = []
    for processes, threads in ((1, 1), (1, 2), (2, 1)):
        seconds = statistics.median(step_seconds(threads, processes) for _ in range(RUNS))
        rows.append({"processes": processes, "threads per process": threads, "ms per step": f"{seconds * 1000:.0f}"})
    print(write_results("scaling", conditions, texts, counts, pd.DataFrame(rows)))


if __name__ == "__main__":
    main()
