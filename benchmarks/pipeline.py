"""Measure each stage, and a `dvc repro` with nothing to do: `python -m benchmarks.pipeline`.

Runs in a clone of HEAD, so the working tree is not changed. Prints wall seconds, and the largest resident memory of
each stage's process, and writes benchmarks/pipeline.json and .md. Without internet access, set FOLIO_MIRROR to a
folder or an address.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

from benchmarks.results import read_conditions, write_results

ROOT = Path(__file__).parent.parent
STAGES = ("download", "tokenize", "train", "evaluate", "sample", "report")
NOOP_RUNS = 5


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Run a command, and return its wall seconds and standard error."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, done.stderr


def main() -> None:
    """Print the table."""
    mirror = os.environ.get("FOLIO_MIRROR", "")
    if mirror and "://" not in mirror:
        os.environ["FOLIO_MIRROR"] = str(Path(mirror).absolute())
    rows, conditions = [], read_conditions()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        for stage in STAGES:
            seconds, stderr = timed([sys.executable, "-m", f"stages.{stage}", "-v"], clone)
            rows.append((stage, f"{seconds:.1f}", *re.findall(r"took .* and (\d+) MB of memory", stderr)))
        seconds, _ = timed(["dvc", "repro", "-f"], clone)
        rows.append(("dvc repro -f, every stage", f"{seconds:.1f}", ""))
        noop = statistics.median(timed(["dvc", "repro"], clone)[0] for _ in range(NOOP_RUNS))
        rows.append((f"dvc repro, nothing to do (median of {NOOP_RUNS})", f"{noop:.1f}", ""))
    table = pd.DataFrame(rows, columns=["what", "seconds", "peak MB"])
    print(write_results("pipeline", conditions, table))


if __name__ == "__main__":
    main()
