"""Check the figures of the default run on tinyshakespeare: `python tests/check_metrics.py reports/metrics.json`.

The bounds leave room for other processors, whose last bits differ; the baselines come out the same everywhere.
"""

import json
import sys
from pathlib import Path

BASELINES = {"uniform_val_loss": 4.174387, "unigram_val_loss": 3.347303, "bigram_val_loss": 2.487501}


def main(path: Path) -> None:
    """Exit with a message where a figure is not what it should be."""
    metrics = json.loads(path.read_text())
    for name, value in BASELINES.items():
        if abs(metrics[name] - value) > 2e-6:
            sys.exit(f"{name} is {metrics[name]}, not {value}: is this tinyshakespeare?")
    if not metrics["val_loss"] <= 1.4697:
        sys.exit(f"val_loss is {metrics['val_loss']}: the default run no longer reaches 1.4697")
    if not metrics["sliding_val_loss"] <= 1.455:
        sys.exit(f"sliding_val_loss is {metrics['sliding_val_loss']}: the default run no longer reaches 1.455")
    print(f"val_loss {metrics['val_loss']}, sliding {metrics['sliding_val_loss']}: as good as promised")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
