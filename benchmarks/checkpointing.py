"""Measure what checkpoints cost the default run: `python -m benchmarks.checkpointing`. Needs tokens."""

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.training_inputs import read_inputs
from stages.train.checkpoint import TrainingCheckpoint
from stages.train.params import RuntimeParams

STEPS, SAVES = 40, 15


def main() -> None:
    """Print the time of a step and of a checkpoint, and the share of training that checkpoints take."""
    _, trainer = read_inputs().prepare_training()
    if not trainer:
        return
    steps, saves = [], []
    for _ in range(STEPS):
        start = time.perf_counter()
        trainer.take_step()
        steps.append(time.perf_counter() - start)
    runtime = RuntimeParams()
    with TemporaryDirectory(dir=".") as folder:
        checkpoint = TrainingCheckpoint({}, runtime, Path(folder))
        checkpoint.folder.mkdir(parents=True)
        for _ in range(SAVES):
            start = time.perf_counter()
            checkpoint.save(trainer)
            saves.append(time.perf_counter() - start)
    step, save, interval = statistics.median(steps), statistics.median(saves), runtime.checkpoint_every_seconds
    share = save / (interval + save)
    print(f"a step {1e3 * step:.1f} ms, a checkpoint {1e3 * save:.1f} ms every {interval:g} s: {share:.2%}")


if __name__ == "__main__":
    main()
