"""Measure the report on a large text: `python -m benchmarks.report`, a few minutes.

The text has ten megabytes of random words of 5,000 distinct characters; the model is
trained for ten steps, because the cost of a report does not depend on its quality. Prints the seconds of every stage
and the size of the page.
"""

import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
ALPHABET = [chr(0x4E00 + index) for index in range(5000)]
CHARACTERS = 10_000_000 // 3  # three bytes each


def main() -> None:
    """Write the text, run every stage on it, and print the times."""
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "data/own").mkdir(parents=True)
        words = ["".join(draw.choices(ALPHABET, k=3)) for _ in range(20000)] + ["".join(ALPHABET)]
        (project / "data/own/text.txt").write_text(
            "".join(ALPHABET) + "".join(draw.choices(words[:-1], k=CHARACTERS // 3))
        )
        document = YAML().load(ROOT / "params.yaml")
        document["download"]["corpus"] = "own"
        document["train"]["max_steps"] = 10
        document["model"] |= {"block_size": 256, "ngram_order": 3}
        document["sample"]["prompt"] = ALPHABET[0]
        YAML().dump(document, project / "params.yaml")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        for stage in ("download", "tokenize", "train", "evaluate", "sample", "report"):
            options = ["--output", "reports/samples.txt"] if stage == "sample" else []
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", f"stages.{stage}", *options], cwd=project, env=environment, check=True
            )
            print(f"{stage}: {time.perf_counter() - start:.1f} s", flush=True)
        print(f"the page: {(project / 'reports/report.html').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
