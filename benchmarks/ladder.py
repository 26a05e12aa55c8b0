"""Every rung of the ladder on the same budget: `python -m benchmarks.ladder`, some minutes on two cores.

Blocks of 64, batches of 32, 1,500 steps, 128 wide, the optimizer and rates of params.yaml; `gpt` without prior, and
last with it. Judged by the loss over the whole validation split, in windows of 64. Writes benchmarks/ladder.md and
benchmarks/ladder.svg. Needs tokens (`dvc repro tokenize`) and `pip install -e '.[bench]'`. One rung in the pipeline
itself: `dvc exp run -S model.kind=head`.
"""

import time
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.inputs import read_inputs
from stages.metrics.losses import blockwise_windows, evaluate_loss
from stages.models.base import count_parameters
from stages.models.params import ModelParams
from stages.train.params import TrainParams
from stages.train.setup import create_trainer

FOLDER = Path(__file__).parent
MODEL = {"block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128, "sliding_window": 0, "prior": "none"}
TRAIN = {"batch_size": 32, "max_steps": 1500, "eval_every": 10**9, "log_every": 10**9}
RUNGS: dict[str, dict[str, str]] = {
    **{kind: {"kind": kind} for kind in ("bigram", "average", "head", "multihead", "block", "lecture_gpt", "gpt")},
    "kneser_ney": {"kind": "kneser_ney"},
    "gpt on a prior": {"kind": "gpt", "prior": "kneser_ney"},
}


def main() -> None:
    """Train every rung, and write the table and the picture."""
    inputs = read_inputs()
    rows = []
    for name, changes in RUNGS.items():
        start = time.perf_counter()
        model_params = ModelParams.model_validate(inputs.document["model"] | MODEL | changes)
        params = TrainParams.model_validate(inputs.document["train"] | TRAIN)
        model, trainer = create_trainer(
            model_params, params, inputs.compute, inputs.vocab_size, inputs.train, inputs.val
        )
        if trainer:
            trainer.run()
        seconds = time.perf_counter() - start
        loss = evaluate_loss(model, blockwise_windows(inputs.val, model_params.block_size, 64)).loss
        rows.append({"rung": name, "val_loss": loss, "parameters": count_parameters(model), "seconds": seconds})
        print(rows[-1], flush=True)
    write(pd.DataFrame(rows))


def write(table: pd.DataFrame) -> None:
    """Write the table as Markdown and draw it."""
    shown = table.assign(val_loss=table["val_loss"].map("{:.4f}".format), seconds=table["seconds"].map("{:.0f}".format))
    (FOLDER / "ladder.md").write_text(shown.to_markdown(index=False) + "\n")
    print((FOLDER / "ladder.md").read_text())
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.barh(table["rung"], table["val_loss"], color="#3366aa")
    axes.invert_yaxis()
    axes.set(xlim=(1.2, 2.8), xlabel="validation loss, nats per character, in windows of 64")
    axes.spines[["top", "right"]].set_visible(False)
    for place, loss in enumerate(table["val_loss"]):
        axes.text(loss + 0.01, place, f"{loss:.3f}", va="center")
    figure.savefig(FOLDER / "ladder.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
