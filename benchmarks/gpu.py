"""Measure everything that needs a GPU: `python -m benchmarks.gpu`.

Takes at most eight minutes, and needs no network and no DVC: only the repository, `data/tokens` (`dvc repro tokenize`)
and an environment with PyTorch for CUDA, click, numpy, pandas, pydantic, rich, ruamel.yaml, safetensors and filelock;
pytest for one of the measurements. Each runs in a process of its own, so that one that fails does not stop the others.
Writes benchmarks/gpu.json and benchmarks/gpu.md. `--small` measures the same things in seconds, on any device, to test
this program, and names of measurements measure only those.
"""

import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from benchmarks.training_inputs import TrainingInputs, read_inputs
from stages.core.logs import peak_memory
from stages.generation.params import SamplingParams
from stages.generation.streaming import generate_tokens
from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import blockwise_windows
from stages.models.base import LanguageModel, count_parameters
from stages.train.checkpoint import restore_tensors, state_tensors
from stages.train.trainer import Trainer

STARTED = time.perf_counter()
MINUTES = 8
GOAL, GOAL_WINDOW = 1.4697, 256  # nanoGPT on an A100, as published
# Dense bfloat16 operations per second, from the data sheets.
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L4": 121e12, "T4": 65e12}
NANOGPT_MODEL = {
    "prior": "none", "n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "sliding_window": 0, "dropout": 0.2,
}  # fmt: skip
NANOGPT_TRAIN = {"batch_size": 64, "max_steps": 2000, "warmup_steps": 50, "window_size": 0}
SIZES = ((2, 128), (6, 384), (12, 768))  # layers, width
SMALL_MODEL = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 32, "sliding_window": 8}
Results = dict[str, Any]


def environment(inputs: TrainingInputs, small: bool) -> Results:  # noqa: ARG001 - every measurement takes both
    """Return the device and the versions."""
    results: Results = {
        "device": str(inputs.train.device),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if inputs.train.is_cuda:
        properties = torch.cuda.get_device_properties(0)
        results |= {
            "name": properties.name,
            "memory_gb": round(properties.total_memory / 1e9, 1),
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
        }
    return results


def tests(inputs: TrainingInputs, small: bool) -> Results:  # noqa: ARG001
    """Return the result of the tests that need CUDA; with `small`, only whether they are found."""
    words = ["-q", "-p", "no:cacheprovider", "-k", "cuda", "tests/train/test_trainer.py", *["--collect-only"] * small]
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=root, capture_output=True, text=True, check=False
    )
    return {"exit_code": done.returncode, "summary": (done.stdout or done.stderr).strip().splitlines()[-1:]}


def equal_bits(inputs: TrainingInputs, small: bool) -> Results:
    """Return whether two trainings, and one that resumed in the middle, end with the same bits."""
    steps = 6 if small else 60

    def train(resume: bool) -> list[Tensor]:
        model, trainer = prepare(inputs, train={"max_steps": steps, "window_size": 0}, small=small)
        take_steps(trainer, steps // 2)
        if resume:
            state = {name: tensor.cpu().clone() for name, tensor in state_tensors(trainer).items()}
            model, trainer = prepare(inputs, train={"max_steps": steps, "window_size": 0}, small=small)
            restore_tensors(trainer, state)
            trainer.step = steps // 2
        take_steps(trainer, steps)
        return [weight.detach().cpu() for weight in model.parameters()]

    first, second, resumed = train(False), train(False), train(True)
    return {
        "two_runs": all(map(torch.equal, first, second)),
        "resumed": all(map(torch.equal, first, resumed)),
    }


def cpu_and_gpu(inputs: TrainingInputs, small: bool) -> Results:
    """Return the loss of the same training, in float32, on the CPU and on the GPU."""
    steps = 6 if small else 60
    losses = {}
    for name, device in (("cpu", torch.device("cpu")), ("gpu", inputs.train.device)):
        compute = inputs.compute.model_copy(update={"precision": "float32"})
        here = replace(inputs, compute=compute, train=inputs.train.to(device), val=inputs.val.to(device))
        model, trainer = prepare(here, train={"max_steps": steps, "compile": "off", "window_size": 0}, small=small)
        take_steps(trainer, steps)
        losses[name] = measure_loss(model, here.val[:20_000])
    return losses | {"difference": losses["gpu"] - losses["cpu"]}


def race(
    inputs: TrainingInputs, small: bool, model_changes: Results, train_changes: Results, seconds: float
) -> Results:
    """Return the loss by time since the start of the process, compilation included, without the time of evaluation."""
    every = 2 if small else 50
    paused = 0.0
    if small:
        train_changes = train_changes | {"max_steps": 4, "batch_size": 2}
    model, trainer = prepare(inputs, model_changes, train_changes, small=small)
    curve = []
    seconds = float("inf") if small else seconds  # a test has been running for a while
    while trainer.step < trainer.params.max_steps and time.perf_counter() - STARTED - paused < seconds:
        take_steps(trainer, trainer.step + every)
        trainer.check_finite()
        now = time.perf_counter()
        curve.append((round(now - STARTED - paused, 2), measure_loss(model, inputs.val)))
        paused += time.perf_counter() - now
    return {
        "parameters": count_parameters(model),
        "steps": trainer.step,
        "seconds": curve[-1][0],
        f"seconds_to_{GOAL}": next((now for now, loss in curve if loss <= GOAL), None),
        "best_loss": min(loss for _, loss in curve),
        "last_loss": curve[-1][1],
        "curve": curve,
        "peak_mb": peak_megabytes(inputs.train.device),
    }


def race_default(inputs: TrainingInputs, small: bool) -> Results:
    """Return the race of the default model with a budget of ten minutes."""
    here = replace(inputs, document=inputs.document | {"budget": 10.0})
    return race(here, small, {}, {}, seconds=90)


def race_without_prior(inputs: TrainingInputs, small: bool) -> Results:
    """Return the race of a network in nanoGPT's size for a GPU, without n-grams."""
    return race(inputs, small, NANOGPT_MODEL, NANOGPT_TRAIN, seconds=120)


def throughput(inputs: TrainingInputs, small: bool) -> Results:
    """Return tokens per second and the share of the card's peak, for networks of three sizes without n-grams."""
    results = {}
    for layers, width in SIZES:
        block_size = 32 if small else 1024
        model_changes = NANOGPT_MODEL | {
            "n_layer": layers, "n_head": max(2, width // 64), "n_embd": width, "block_size": block_size, "dropout": 0.0,
        }  # fmt: skip
        train_changes = {"batch_size": 2 if small else 64, "max_steps": 10**6, "window_size": 0}
        model, trainer = prepare(inputs, model_changes, train_changes, small=small)
        warm_up, count = (1, 1) if small else (5, 20)
        take_steps(trainer, warm_up)
        trainer.check_finite()
        start, tokens = time.perf_counter(), trainer.tokens_seen
        take_steps(trainer, warm_up + count)
        trainer.check_finite()
        rate = (trainer.tokens_seen - tokens) / (time.perf_counter() - start)
        # 6 per weight and token; attention to half of the block, twice (Kaplan et al. 2020, arXiv:2001.08361).
        peak = peak_operations(inputs.train.device)
        operations = 6 * count_parameters(model) + 6 * layers * block_size * width
        results[f"{layers} x {width}"] = {
            "parameters": count_parameters(model),
            "tokens_per_second": round(rate),
            "share_of_peak": round(rate * operations / peak, 4) if peak else None,
            "peak_mb": peak_megabytes(inputs.train.device),
        }
    return results


def generation(inputs: TrainingInputs, small: bool) -> Results:
    """Return characters per second of the default model, for several streams at once."""
    model, _ = prepare(inputs, small=small)
    model.eval()
    length = 8 if small else 256
    results = {}
    for streams in (1, 64, 1024):
        count = min(streams, 4) if small else streams
        prompt = inputs.val[:16].long().expand(count, -1)
        for _ in range(2):  # the first one is a warm-up
            start = time.perf_counter()
            generate_tokens(model, prompt, length, SamplingParams(), list(range(count)))
            seconds = time.perf_counter() - start
        results[str(streams)] = round(count * length / seconds)
    return results | {"peak_mb": peak_megabytes(inputs.train.device)}


# The seconds that each may take, and together at most MINUTES.
MEASUREMENTS: dict[str, tuple[int, Callable[[TrainingInputs, bool], Results]]] = {
    "environment": (60, environment),
    "equal_bits": (90, equal_bits),
    "cpu_and_gpu": (90, cpu_and_gpu),
    "race_default": (150, race_default),
    "race_without_prior": (170, race_without_prior),
    "throughput": (120, throughput),
    "generation": (90, generation),
    "tests": (60, tests),
}


def prepare(
    inputs: TrainingInputs, model: Results | None = None, train: Results | None = None, small: bool = False
) -> tuple[LanguageModel, Trainer]:
    """Return a new model and its trainer; with `small`, of the size of a test."""
    model = (model or {}) | (SMALL_MODEL if small else {})
    new_model, trainer = inputs.prepare_training(model, train)
    assert trainer
    trainer.model.train()
    return new_model, trainer


def take_steps(trainer: Trainer, last: int) -> None:
    """Train up to a step."""
    while trainer.step < last:
        trainer.take_step()


def measure_loss(model: LanguageModel, val: Tensor) -> float:
    """Return the loss in windows of at most GOAL_WINDOW tokens."""
    window = min(GOAL_WINDOW, model.params.block_size)
    return round(evaluate_loss(model, blockwise_windows(val, window, 64)).loss, 5)


def peak_megabytes(device: torch.device) -> float:
    """Return the largest memory so far: of the GPU if there is one, otherwise of this process."""
    return round(torch.cuda.max_memory_allocated() / 1e6 if device.type == "cuda" else peak_memory(), 1)


def peak_operations(device: torch.device) -> float | None:
    """Return the bfloat16 operations per second of the card, or None if it is not in the list."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return next((peak for card, peak in PEAKS.items() if card in name), None)


def run_measurement(name: str, seconds: float) -> Results:
    """Return the results of a measurement in a process of its own, or what went wrong."""
    command = [sys.executable, "-m", "benchmarks.gpu", name, "--print"]
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not finished after {seconds:.0f} s"}
    if done.returncode:
        return {"error": done.stderr.strip().splitlines()[-3:]}
    results: Results = json.loads(done.stdout.splitlines()[-1])
    return results | {"wall_seconds": round(time.perf_counter() - start, 1)}


def describe(results: Results) -> str:
    """Return the results as a Markdown table; a measurement that went wrong has its error there."""
    lines = ["| measurement | result | on |", "| --- | --- | --- |"]
    for name, values in results.items():
        rows = [(name, f"error: {values['error']}")] if "error" in values else DESCRIPTIONS[name](values)
        lines += [f"| {label} | {text} | {values.get('card', '')} |" for label, text in rows]
    used = sorted({f"{values['card']}: {values['software']}" for values in results.values() if "software" in values})
    return "\n".join(lines) + ("\n\n" + "; ".join(used) + ".\n" if used else "\n")


def describe_race(label: str, values: Results) -> list[tuple[str, str]]:
    """Return the rows of a race."""
    reached = values[f"seconds_to_{GOAL}"]
    goal = "not reached" if reached is None else f"after {reached:.0f} s"
    best = min(values["curve"], key=lambda point: point[1])
    return [
        (f"{label}: loss of {GOAL}", goal),
        (f"{label}: lowest loss", f"{best[1]:.3f} after {best[0]:.0f} s"),
        (f"{label}: at its end", f"{values['steps']:,} steps, {values['seconds']:.0f} s, {values['peak_mb']:,.0f} MB"),
    ]


def describe_throughput(values: Results) -> list[tuple[str, str]]:
    """Return a row for each size."""
    rows = []
    for size, sizes in values.items():
        if isinstance(sizes, dict):
            share = f", {sizes['share_of_peak']:.1%} of the peak" if sizes["share_of_peak"] else ""
            rate = f"{sizes['tokens_per_second']:,} tokens per second{share}, {sizes['peak_mb']:,.0f} MB"
            rows.append((f"training, layers x width: {size}", rate))
    return rows


DESCRIPTIONS: dict[str, Callable[[Results], list[tuple[str, str]]]] = {
    "environment": lambda values: [],  # noqa: ARG005 - the line below the table has it
    "equal_bits": lambda values: [
        ("two runs are bit-identical", "yes" if values["two_runs"] else "**no**"),
        ("a resumed run is bit-identical", "yes" if values["resumed"] else "**no**"),
    ],
    "cpu_and_gpu": lambda values: [
        ("loss after the same steps in float32, CPU and GPU", f"{values['cpu']:.5f} and {values['gpu']:.5f}")
    ],
    "race_default": lambda values: describe_race("default model, `budget: 10`", values),
    "race_without_prior": lambda values: describe_race("6 x 384 without n-grams", values),
    "throughput": describe_throughput,
    "generation": lambda values: [
        (f"generated characters per second, texts together: {int(count):,}", f"{values[count]:,}")
        for count in ("1", "64", "1024")
    ],
    "tests": lambda values: [("tests that need CUDA", *values["summary"])],
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(MEASUREMENTS)))
@click.option("--small", is_flag=True, help="Measure everything in seconds, in this process, to test the program.")
@click.option("--print", "print_only", is_flag=True, help="Measure in this process and print the result.")
@click.option("--output", type=Path, default=Path(__file__).with_suffix(".json"), help="The JSON file to write.")
def main(names: tuple[str, ...], small: bool, print_only: bool, output: Path) -> None:
    """Measure NAMES, by default everything, and write the results; those of other measurements stay as they are."""
    if print_only:
        for name in names:
            inputs = read_inputs()
            card = torch.cuda.get_device_name() if inputs.train.is_cuda else "CPU"
            software = f"PyTorch {torch.__version__}, Python {platform.python_version()}"
            print(json.dumps(MEASUREMENTS[name][1](inputs, small) | {"card": card, "software": software}))
        return
    results: Results = json.loads(output.read_text()) if names and output.exists() else {}
    for name in names or MEASUREMENTS:
        limit, measure = MEASUREMENTS[name]
        left = 60 * MINUTES - (time.perf_counter() - STARTED)
        if small:
            results[name] = measure(read_inputs(), small)
        elif left < 10:
            results[name] = {"error": f"no time left of {MINUTES} minutes"}
        else:
            results[name] = run_measurement(name, min(limit, left))
        click.echo(f"{name}: { {key: value for key, value in results[name].items() if key != 'curve'} }", err=True)
        output.write_text(json.dumps(results, indent=1) + "\n")
    output.with_suffix(".md").write_text(describe(results))


if __name__ == "__main__":
    main()
