"""How long a report takes on a large text: `python -m benchmarks.report`, a few minutes.

Ten megabytes of random words of 5,000 distinct characters, a model as wide as the default trained for ten steps: what a
report costs does not depend on what the model knows. Prints the seconds of `folio report` and the size of its page.
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
SIGNS = [chr(0x4E00 + each) for each in range(5000)]
CHARACTERS = 10_000_000 // 3  # three bytes each


def main() -> None:
    """Make the text, run every stage on it, and time the last."""
    draw = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        (place / "data/own").mkdir(parents=True)
        words = ["".join(draw.choices(SIGNS, k=3)) for _ in range(20000)] + ["".join(SIGNS)]
        (place / "data/own/text.txt").write_text("".join(SIGNS) + "".join(draw.choices(words[:-1], k=CHARACTERS // 3)))
        document = YAML().load(ROOT / "params.yaml")
        document["download"]["corpus"] = "own"
        document["train"]["max_steps"] = 10
        document["model"] |= {"block_size": 256, "ngram_order": 3}
        document["sample"]["prompt"] = SIGNS[0]
        YAML().dump(document, place / "params.yaml")
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        for stage in ("download", "tokenize", "train", "evaluate", "sample", "report"):
            options = ["--output", "reports/samples.txt"] if stage == "sample" else []
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", f"stages.{stage}", *options], cwd=place, env=environment, check=True)
            print(f"{stage}: {time.perf_counter() - start:.1f} s", flush=True)
        print(f"the page: {(place / 'reports/report.html').stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
