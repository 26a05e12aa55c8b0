"""Check the metrics of the default run on tinyshakespeare: `python tests/check_metrics.py reports/metrics.json`.

The bounds allow for processors with other last bits and another precision; the baselines are the same everywhere.
"""

import json
import sys
from pathlib import Path

BASELINES = {"uniform_val_loss": 4.174387, "unigram_val_loss": 3.347303, "bigram_val_loss": 2.487501}
BOUNDS = {"val_loss": 1.33, "short_block_val_loss": 1.42, "sliding_val_loss": 1.31}


def main(path: Path) -> None:
    """Exit with a message if a metric is not what it should be."""
    metrics = json.loads(path.read_text())
    for name, value in BASELINES.items():
        if abs(metrics[name] - value) > 2e-6:
            sys.exit(f"{name} is {metrics[name]}, not {value}: is this tinyshakespeare?")
    for name, bound in BOUNDS.items():
        if not metrics[name] <= bound:
            sys.exit(f"{name} is {metrics[name]}, above {bound}: the default run has become worse")
    print(", ".join(f"{name} {metrics[name]} (at most {bound})" for name, bound in BOUNDS.items()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
