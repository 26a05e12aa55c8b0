"""Compare Folio with a peer on this machine, in one run: `python -m benchmarks.race`.

Trains alternately (a) Folio's default, (b) Folio without a prior, and (c) a GPT-2 of the `transformers` library in
nanoGPT's CPU configuration, each in a new process. All are evaluated by the same loss on the whole validation text.
The clock starts with the process, includes imports and counting, and is paused during evaluation. Writes
benchmarks/race.json, .md and .svg. Needs tokens (`dvc repro tokenize`) and the extra `bench`.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch
from matplotlib.figure import Figure
from ruamel.yaml import YAML

from benchmarks.results import FOLDER, read_conditions, write_results
from benchmarks.training_inputs import read_inputs
from stages.core.logs import peak_memory
from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import blockwise_windows, sliding_windows
from stages.models.base import LanguageModel
from stages.train.trainer import Trainer

STARTED = time.perf_counter()
GOALS = (1.898, 1.60, 1.4697)  # nanoGPT on a CPU; without prior; nanoGPT on an A100
CONTENDERS = ("folio", "no-prior", "peer")
NAMES = {
    "folio": "Folio, default",
    "no-prior": "Folio without a prior",
    "peer": "GPT-2 of transformers, nanoGPT's sizes",
}


class Clock:
    """Seconds since the process started, without those spent on evaluation."""

    def __init__(self, before: float) -> None:
        self.before, self.paused = before, 0.0

    def read(self) -> float:
        """Return the seconds."""
        return self.before + time.perf_counter() - STARTED - self.paused

    def measure(self, model: LanguageModel, val: torch.Tensor) -> tuple[float, float]:
        """Return the seconds so far and the loss on the validation text; the clock is paused meanwhile."""
        start = time.perf_counter()
        seconds = self.read()
        loss = evaluate_loss(model, blockwise_windows(val, model.params.block_size, 4)).loss
        self.paused += time.perf_counter() - start
        return seconds, loss


def run_contender(contender: str, seed: int, before: float) -> dict[str, Any]:
    """Train one contender, and return its curve of (seconds, loss) and its final results."""
    clock = Clock(before)
    inputs = read_inputs()
    if contender == "no-prior":
        changes = YAML(typ="safe").load(FOLDER / "no_prior.yaml")
        inputs.document.update({name: inputs.document[name] | section for name, section in changes.items()})
    torch.manual_seed(seed)
    if contender == "peer":
        from benchmarks import peer

        gpt2 = peer.Peer(inputs.vocab_size)
        model: LanguageModel = gpt2
        steps, every = peer.train(gpt2, inputs.train, seed), 100
    else:
        model, trainer = inputs.prepare_training(train={"seed": seed})
        assert trainer
        steps, every = folio_steps(trainer), 50
    curve = [clock.measure(model, inputs.val) for step in steps if step % every == 0 or step in (1, 10, 25)]
    block_size = model.params.block_size
    sliding = evaluate_loss(model, sliding_windows(inputs.val, block_size, block_size // 2, 4)).loss
    return {"contender": contender, "seed": seed, "curve": curve, "sliding": sliding, "memory": peak_memory()}


def folio_steps(trainer: Trainer) -> Iterator[int]:
    """Train as the stage does, and yield the number of every step when it is finished."""
    trainer.model.train()
    while trainer.step < trainer.params.max_steps:
        trainer.take_step()
        yield trainer.step


def seconds_to(curve: list[tuple[float, float]], goal: float) -> float | None:
    """Return the seconds at the first measurement with a loss of at most `goal`."""
    return next((seconds for seconds, loss in curve if loss <= goal), None)


def summarize(runs: list[dict[str, Any]]) -> pd.DataFrame:
    """Return one row per contender: medians over its seeds."""
    rows = []
    for contender in CONTENDERS:
        contender_runs = [run for run in runs if run["contender"] == contender]
        if not contender_runs:
            continue
        curves: list[list[tuple[float, float]]] = [run["curve"] for run in contender_runs]
        row = {
            "": NAMES[contender],
            "val_loss": f"{statistics.median(curve[-1][1] for curve in curves):.4f}",
            "sliding_val_loss": f"{statistics.median(run['sliding'] for run in contender_runs):.4f}",
            "seconds": f"{statistics.median(curve[-1][0] for curve in curves):.0f}",
        }
        for goal in GOALS:
            times = [seconds_to(curve, goal) for curve in curves]
            reached = [seconds for seconds in times if seconds is not None]
            note = "" if len(reached) == len(times) else f" ({len(reached)} of {len(times)} runs)"
            row[f"s to {goal}"] = f"{statistics.median(reached):.1f}{note}" if reached else "never"
        row["peak MB"] = f"{max(run['memory'] for run in contender_runs):.0f}"
        rows.append(row)
    return pd.DataFrame(rows)


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw the loss by time, with a line for every run."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    colours = dict(zip(CONTENDERS, ("#3366aa", "#55aa77", "#aa5533"), strict=True))
    for run in runs:
        seconds, losses = zip(*run["curve"], strict=True)
        contender = str(run["contender"])
        label = NAMES[contender] if run["seed"] == 1 else None
        axes.plot(seconds, losses, color=colours[contender], label=label)
    axes.axhline(1.4697, color="#888888", linestyle=":")
    axes.annotate(
        "nanoGPT on an A100, as published: 1.4697",
        (0.99, 1.4697),
        xycoords=("axes fraction", "data"),
        ha="right",
        va="bottom",
    )
    axes.set(xscale="log", ylim=(1.25, 2.6), xlabel="seconds since the process started (logarithmic)")
    axes.set_ylabel("validation loss, nats per character")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


@click.command()
@click.option("--seeds", default=3, show_default=True, help="Runs of each contender.")
@click.option("--only", type=click.Choice(CONTENDERS), multiple=True, help="Run only these contenders.")
@click.option("--contender", type=click.Choice(CONTENDERS), hidden=True)
@click.option("--seed", type=int, hidden=True)
@click.option("--started", type=float, hidden=True)
def main(seeds: int, only: tuple[str, ...], contender: str | None, seed: int | None, started: float | None) -> None:
    """Run all contenders, or, in a process that this command started, one of them."""
    if contender and seed and started:
        print(json.dumps(run_contender(contender, seed, time.time() - started - (time.perf_counter() - STARTED))))
        return
    runs, conditions = [], read_conditions()
    for number in range(1, seeds + 1):
        for name in only or CONTENDERS:
            command = [sys.executable, "-m", "benchmarks.race", "--contender", name, "--seed", str(number)]
            done = subprocess.run([*command, "--started", str(time.time())], capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
            click.echo(f"{name}, seed {number}: {runs[-1]['curve'][-1]}", err=True)
    table = write_results("race", conditions, summarize(runs))
    draw(runs, FOLDER / "race.svg")
    click.echo(table)


if __name__ == "__main__":
    main()
