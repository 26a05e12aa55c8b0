"""How long each stage takes, and a `dvc repro` that has nothing to do: `python -m benchmarks.pipeline`.

In a clone of HEAD, so that the work tree stays as it is. FOLIO_MIRROR, a folder or address, where there is no internet.
Wall seconds, and the largest resident memory of the stage's process.
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

from stages.cli import COMMANDS

ROOT = Path(__file__).parent.parent
STAGES = ("download", "tokenize", "train", "evaluate", "sample", "report")
RUNS_OF_NOTHING = 5


def timed(command: list[str], folder: Path) -> tuple[float, str]:
    """Run a command; give its wall seconds and what it said."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    return time.perf_counter() - start, done.stderr


def main() -> None:
    """Print the table."""
    mirror = os.environ.get("FOLIO_MIRROR", "")
    if mirror and "://" not in mirror:
        os.environ["FOLIO_MIRROR"] = str(Path(mirror).absolute())
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        for stage in STAGES:
            seconds, said = timed([sys.executable, "-m", COMMANDS[stage][0], "-v"], clone)
            rows.append((stage, f"{seconds:.1f}", *re.findall(r"(\d+) MB of memory", said)))
        seconds, _ = timed(["dvc", "repro", "-f"], clone)
        rows.append(("dvc repro -f, every stage", f"{seconds:.1f}", ""))
        nothing = statistics.median(timed(["dvc", "repro"], clone)[0] for _ in range(RUNS_OF_NOTHING))
        rows.append((f"dvc repro, nothing to do (median of {RUNS_OF_NOTHING})", f"{nothing:.1f}", ""))
    table = pd.DataFrame(rows, columns=["what", "seconds", "peak MB"])
    print(table.to_markdown(index=False))


if __name__ == "__main__":
    main()
