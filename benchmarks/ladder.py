"""Train every model for the same number of steps: `python -m benchmarks.ladder`, several minutes on two cores.

Blocks of 64, batches of 32, 1,500 steps, 128 wide, the optimizer and rates of params.yaml; `gpt` without a prior and,
last, with one. The loss is that of the whole validation text in windows of 64. Writes benchmarks/ladder.md and
benchmarks/ladder.svg. Needs tokens (`dvc repro tokenize`) and the extra `bench`.
"""

import time

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.results import FOLDER, read_conditions, write_results
from benchmarks.training_inputs import read_inputs
from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import blockwise_windows
from stages.models.base import count_parameters

MODEL = {"block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128, "sliding_window": 0, "prior": "none"}
TRAIN = {"batch_size": 32, "max_steps": 1500}
MODELS: dict[str, dict[str, str]] = {
    **{kind: {"kind": kind} for kind in ("bigram", "average", "head", "multihead", "block", "lecture_gpt", "gpt")},
    "kneser_ney": {"kind": "kneser_ney"},
    "gpt with a prior": {"kind": "gpt", "prior": "kneser_ney"},
}


def main() -> None:
    """Train every model, and write the table and the figure."""
    conditions = read_conditions()
    inputs = read_inputs()
    rows = []
    for name, changes in MODELS.items():
        start = time.perf_counter()
        model, trainer = inputs.prepare_training(MODEL | changes, TRAIN)
        if trainer:
            trainer.train()
        seconds = time.perf_counter() - start
        loss = evaluate_loss(model, blockwise_windows(inputs.val, model.params.block_size, 64)).loss
        rows.append({"model": name, "val_loss": loss, "parameters": count_parameters(model), "seconds": seconds})
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    shown = {"val_loss": table["val_loss"].map("{:.4f}".format), "seconds": table["seconds"].map("{:.0f}".format)}
    print(write_results("ladder", conditions, table.assign(**shown)))
    draw(table)


def draw(table: pd.DataFrame) -> None:
    """Draw a bar chart of the losses."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    axes.barh(table["model"], table["val_loss"], color="#3366aa")
    axes.invert_yaxis()
    axes.set(xlim=(1.2, 2.8), xlabel="validation loss, nats per character, in windows of 64")
    axes.spines[["top", "right"]].set_visible(False)
    for index, loss in enumerate(table["val_loss"]):
        axes.text(loss + 0.01, index, f"{loss:.3f}", va="center")
    figure.savefig(FOLDER / "ladder.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
