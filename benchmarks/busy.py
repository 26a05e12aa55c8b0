"""Measure training, evaluation and generation beside other processes: `python -m benchmarks.busy`.

Loads: none; two and four busy loops beside; and a quota of one core, which needs root and Linux' control groups. Each
command runs as it is and, for comparison, as it was before: with OpenMP's own waiting time, and with a thread for every
core whatever the quota. The peer is a GPT-2 of `transformers` (benchmarks/peer.py), with PyTorch as it comes. Prints
medians of wall seconds, imports included, and writes benchmarks/busy.json and .md. Needs the results of the pipeline,
the extra `bench`, and a machine that does nothing else; it stops if the load average is high.
"""

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pandas as pd
from ruamel.yaml import YAML

from benchmarks.results import check_load, read_conditions, write_results

ROOT = Path(__file__).parent.parent
CGROUPS = Path("/sys/fs/cgroup")
CONTENDERS = ("now", "before", "peer")
LOADS = ("calm", "two busy loops", "four busy loops", "quota of one core")
STEPS, PEER_STEPS = 20, 100
OPENMP_DEFAULT = "300000"  # GOMP_SPINCOUNT, if there are not more threads than cores


@contextmanager
def load(name: str) -> Iterator[Path | None]:
    """Put a load on the machine, and yield the file that a process joins a quota by, if that is the load."""
    count = {"two busy loops": 2, "four busy loops": 4}.get(name, 0)
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    first_version = (CGROUPS / "cpu").exists()
    group = (CGROUPS / "cpu" if first_version else CGROUPS) / "folio-benchmark"
    try:
        if name == "quota of one core":
            group.mkdir(exist_ok=True)
            if first_version:
                (group / "cpu.cfs_quota_us").write_text("100000")
            else:
                (group / "cpu.max").write_text("100000 100000")
        yield group / "cgroup.procs" if name == "quota of one core" else None
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
        if group.exists():
            group.rmdir()


def commands(contender: str, folder: Path) -> dict[str, list[str]]:
    """Return what is measured, by name."""
    if contender == "peer":
        return {"train": [sys.executable, "-m", "benchmarks.busy", "--train-peer"]}
    params, python = str(folder / f"{contender}.yaml"), [sys.executable, "-m"]
    tokens = ["--tokens", str(ROOT / "data/tokens")]
    curve, metrics = str(folder / "train.tsv"), str(folder / "metrics.json")
    model = str(folder / "models")
    return {
        "train": [*python, "stages.train", "-q", "--params", params, *tokens, "--model", model, "--curve", curve],
        "evaluate": [
            *(*python, "stages.evaluate", "-q", "--params", params, *tokens, "--model", model, "--metrics", metrics),
            *("--by-position", str(folder / "position.tsv"), "--calibration", str(folder / "calibration.tsv")),
            *("--predictions", str(folder / "predictions.safetensors")),
        ],
        "sample": [
            *(*python, "stages.sample", "-q", "--params", params, "--model", str(ROOT / "models")),
            *("--num-samples", "1", "--max-new-tokens", "1000", "--output", str(folder / "samples.txt")),
        ],
    }


def write_params(folder: Path) -> None:
    """Write the parameters of a short training, as they are and with a thread for every core."""
    document = YAML().load(ROOT / "params.yaml")
    document["train"] |= {"max_steps": STEPS, "eval_every": STEPS}
    document["evaluate"] |= {"max_tokens": 5_000}
    for contender, threads in (("now", 0), ("before", len(os.sched_getaffinity(0)))):
        document["compute"]["threads"] = threads
        YAML().dump(document, folder / f"{contender}.yaml")


def seconds(command: list[str], contender: str, join: Path | None, folder: Path) -> float:
    """Return the wall seconds of a command."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("GOMP_SPINCOUNT", None)
    if contender != "now":
        environment["GOMP_SPINCOUNT"] = OPENMP_DEFAULT

    def enter() -> None:
        if join:
            join.write_text(str(os.getpid()))

    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, preexec_fn=enter)
    return time.perf_counter() - start


def train_peer() -> None:
    """Train the peer for a few steps."""
    from benchmarks import peer
    from benchmarks.training_inputs import read_inputs

    os.chdir(ROOT)
    inputs = read_inputs()
    model = peer.Peer(inputs.vocab_size)
    for _ in itertools.islice(peer.train(model, inputs.train, 1), PEER_STEPS):
        pass


@click.command()
@click.option("--runs", default=3, show_default=True, help="Runs of everything; the medians count.")
@click.option("--load", "loads", type=click.Choice(LOADS), multiple=True, help="Measure only beside these loads.")
@click.option("--train-peer", "only_peer", is_flag=True, hidden=True)
def main(runs: int, loads: tuple[str, ...], only_peer: bool) -> None:
    """Measure everything beside every load, alternately, and print the table."""
    if only_peer:
        return train_peer()
    check_load()
    conditions = read_conditions() | {"runs": runs}
    times: dict[tuple[str, str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_params(folder)
        for _, name in itertools.product(range(runs), loads or LOADS):
            with load(name) as join:
                for contender in CONTENDERS:
                    for what, command in commands(contender, folder).items():
                        taken = seconds(command, contender, join, folder)
                        times.setdefault((what, contender, name), []).append(taken)
                        click.echo(f"{name}, {contender}, {what}: {taken:.1f} s", err=True)
    rows = []
    for what, contender in dict.fromkeys((what, contender) for what, contender, _ in times):
        row: dict[str, str] = {"": f"{what}, {contender}"}
        for name in loads or LOADS:
            median = statistics.median(times[what, contender, name])
            calm = times.get((what, contender, "calm"))
            row[name] = f"{median:.1f}" + (f" (x {median / statistics.median(calm):.1f})" if calm else "")
        rows.append(row)
    click.echo(write_results("busy", conditions, pd.DataFrame(rows)))
    return None


if __name__ == "__main__":
    main()
