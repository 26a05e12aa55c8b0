"""What saving the state costs the default run: `python -m benchmarks.checkpointing`. Needs tokens."""

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.inputs import read_inputs
from stages.models.params import ModelParams
from stages.train.checkpoint import TrainingCheckpoint
from stages.train.params import TrainParams
from stages.train.setup import create_trainer

STEPS, SAVES = 40, 15


def main() -> None:
    """Time a step and a save, and say what part of training saving is."""
    inputs = read_inputs()
    params = TrainParams.model_validate(inputs.document["train"])
    _, trainer = create_trainer(
        ModelParams.model_validate(inputs.document["model"]),
        params,
        inputs.compute,
        inputs.vocab_size,
        inputs.train,
        inputs.val,
    )
    if not trainer:
        return
    steps, saves = [], []
    for _ in range(STEPS):
        start = time.perf_counter()
        trainer.take_step()
        steps.append(time.perf_counter() - start)
    with TemporaryDirectory(dir=".") as folder:
        state = TrainingCheckpoint({}, Path(folder))
        state.folder.mkdir(parents=True)
        for _ in range(SAVES):
            start = time.perf_counter()
            state.save(trainer)
            saves.append(time.perf_counter() - start)
    step, save = statistics.median(steps), statistics.median(saves)
    share = save / (params.checkpoint_every + save)
    print(f"a step {1e3 * step:.1f} ms, a save {1e3 * save:.1f} ms every {params.checkpoint_every:g} s: {share:.2%}")


if __name__ == "__main__":
    main()
