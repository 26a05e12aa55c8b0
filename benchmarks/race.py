"""Folio against a peer, on this machine, in one run: `python -m benchmarks.race`.

Trains in turn (a) Folio's default, (b) Folio without prior, (c) a GPT-2 of the `transformers` library in nanoGPT's CPU
configuration, each in a process of its own, each judged by the same loss over the whole validation split. The clock
runs from the start of the process (imports, counting and all) and stands still while the loss is measured. Writes
benchmarks/race.md and benchmarks/race.svg. Needs tokens (`dvc repro tokenize`) and `pip install -e '.[bench]'`.
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

from stages.core.device import ComputeParams, prepare
from stages.core.logs import peak_memory
from stages.metrics.losses import blockwise_windows, evaluate_loss, sliding
from stages.models.base import LanguageModel
from stages.models.params import ModelParams
from stages.tokenizers.registry import load_tokenizer
from stages.tokenizers.token_files import load_tokens
from stages.train.params import TrainParams
from stages.train.setup import create_trainer
from stages.train.trainer import Trainer

STARTED = time.perf_counter()
GOALS = (1.898, 1.60, 1.4697)  # nanoGPT on a CPU; without prior; nanoGPT on an A100
CONTENDERS = ("folio", "no-prior", "peer")
NAMES = {"folio": "Folio, default", "no-prior": "Folio without prior", "peer": "GPT-2 of transformers, nanoGPT's sizes"}
FOLDER = Path(__file__).parent


class Clock:
    """Seconds since the process started, without those spent on measuring."""

    def __init__(self, before: float) -> None:
        self.before, self.paused = before, 0.0

    def read(self) -> float:
        """Give the seconds."""
        return self.before + time.perf_counter() - STARTED - self.paused

    def evaluate_loss(self, model: LanguageModel, val: torch.Tensor) -> tuple[float, float]:
        """Give the seconds so far and the loss in windows, and leave the clock as it was."""
        start = time.perf_counter()
        seconds = self.read()
        loss = evaluate_loss(model, blockwise_windows(val, model.params.block_size, 4)).loss
        self.paused += time.perf_counter() - start
        return seconds, loss


def contend(contender: str, seed: int, before: float) -> dict[str, Any]:
    """Train one contender; give its curve of (seconds, loss) and its last figures."""
    clock = Clock(before)
    document = YAML(typ="safe").load(Path("params.yaml"))
    if contender == "no-prior":
        changes = YAML(typ="safe").load(FOLDER / "no_prior.yaml")
        document = {name: {**section, **changes.get(name, {})} for name, section in document.items()}
    compute = ComputeParams.model_validate(document["compute"])
    tokenizer = load_tokenizer(Path("data/tokens/tokenizer.json"))
    train, val = load_tokens(Path("data/tokens"), tokenizer)
    device = prepare_device(compute)
    torch.manual_seed(seed)
    if contender == "peer":
        from benchmarks import peer

        gpt2 = peer.Peer(len(tokenizer))
        model: LanguageModel = gpt2
        steps, every = peer.train(gpt2, train, seed), 100
    else:
        model_params = ModelParams.model_validate(document["model"])
        params = TrainParams.model_validate(document["train"] | {"seed": seed, "eval_every": 10**9})
        model, trainer = create_trainer(model_params, params, compute, len(tokenizer), train.to(device), val.to(device))
        assert trainer
        steps, every = folio_steps(trainer), 50
    curve = [clock.evaluate_loss(model, val) for step in steps if step % every == 0 or step in (1, 10, 25)]
    slid = evaluate_loss(model, sliding_windows(val, model.params.block_size, model.params.block_size // 2, 4)).loss
    return {"contender": contender, "seed": seed, "curve": curve, "sliding": slid, "memory": peak_memory()}


def folio_steps(trainer: Trainer) -> Iterator[int]:
    """Train as the stage does; give the number of every step when it is done."""
    trainer.model.train()
    while trainer.step < trainer.params.max_steps:
        trainer.take_step()
        yield trainer.step


def seconds_to(curve: list[tuple[float, float]], goal: float) -> float | None:
    """Give the seconds at the first measurement that is as good as `goal`."""
    return next((seconds for seconds, loss in curve if loss <= goal), None)


def summarize(runs: list[dict[str, Any]]) -> pd.DataFrame:
    """Give one row for each contender: medians over its seeds."""
    rows = []
    for contender in CONTENDERS:
        mine = [run for run in runs if run["contender"] == contender]
        if not mine:
            continue
        curves: list[list[tuple[float, float]]] = [run["curve"] for run in mine]
        row = {
            "": NAMES[contender],
            "val_loss": f"{statistics.median(curve[-1][1] for curve in curves):.4f}",
            "sliding_val_loss": f"{statistics.median(run['sliding'] for run in mine):.4f}",
            "seconds": f"{statistics.median(curve[-1][0] for curve in curves):.0f}",
        }
        for goal in GOALS:
            times = [seconds_to(curve, goal) for curve in curves]
            reached = [each for each in times if each is not None]
            some = "" if len(reached) == len(times) else f" ({len(reached)} of {len(times)} runs)"
            row[f"s to {goal}"] = f"{statistics.median(reached):.1f}{some}" if reached else "never"
        row["peak MB"] = f"{max(run['memory'] for run in mine):.0f}"
        rows.append(row)
    return pd.DataFrame(rows)


def draw(runs: list[dict[str, Any]], path: Path) -> None:
    """Draw loss against seconds, every run a line."""
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
@click.option("--only", type=click.SamplingParams(CONTENDERS), multiple=True, help="Leave the other contenders out.")
@click.option("--contender", type=click.SamplingParams(CONTENDERS), hidden=True)
@click.option("--seed", type=int, hidden=True)
@click.option("--started", type=float, hidden=True)
def main(seeds: int, only: tuple[str, ...], contender: str | None, seed: int | None, started: float | None) -> None:
    """Run the race, or, called by itself, one contender of it."""
    if contender and seed and started:
        print(json.dumps(contend(contender, seed, time.time() - started - (time.perf_counter() - STARTED))))
        return
    runs = []
    for number in range(1, seeds + 1):
        for name in only or CONTENDERS:
            command = [sys.executable, "-m", "benchmarks.race", "--contender", name, "--seed", str(number)]
            done = subprocess.run([*command, "--started", str(time.time())], capture_output=True, text=True, check=True)
            runs.append(json.loads(done.stdout.splitlines()[-1]))
            click.echo(f"{name}, seed {number}: {runs[-1]['curve'][-1]}", err=True)
    table = summarize(runs).to_markdown(index=False)
    (FOLDER / "race.md").write_text(table + "\n")
    draw(runs, FOLDER / "race.svg")
    click.echo(table)


if __name__ == "__main__":
    main()
