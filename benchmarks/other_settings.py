"""Compare the automatic settings with others: `python -m benchmarks.other_settings [NAME …]`, twenty minutes per text.

Trains on each text of `benchmarks/texts.tsv`, with the budget of params.yaml:

- `automatic`: the settings that Folio chooses;
- `best` and `median`: of --tries trainings with random settings around the automatic ones, whose expected time is at
  most the larger of the budget and that of the automatic settings. The best one is chosen by its loss on the
  validation text, so it is lower than a user would get;
- `fixed`: the fixed settings of version 0.1;
- `gpt2`: the GPT-2 of `benchmarks/peer.py`, trained for up to ten times as many seconds as the automatic settings
  took, with the weights that have the lowest validation loss.

Losses are `sliding_val_loss` in nats per byte. Writes a row per text to benchmarks/other_settings.tsv and .md; texts
that have a row are skipped. Needs the extra `bench`.
"""

import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import pandas as pd
import torch
from pydantic import ValidationError

from benchmarks import peer
from benchmarks.texts import FOLDER, fetch_text, read_table
from benchmarks.training_inputs import TrainingInputs, read_inputs
from stages.core.errors import FolioError
from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import blockwise_windows, sliding_windows
from stages.models.base import LanguageModel
from stages.tokenizers.registry import load_tokenizer
from stages.train.auto import WIDTHS, Settings, step_seconds

ROOT = Path(__file__).parents[1]
ROWS = Path(__file__).with_suffix(".tsv")
DEFAULT_TEXTS = ("stocks-csv", "gpl-3", "us-constitution")
GPT2_TIME, GPT2_POINTS, GPT2_PATIENCE = 10, 50, 10
FIXED: dict[str, dict[str, Any]] = {  # version 0.1
    "model": {
        "block_size": 2048, "n_layer": 2, "n_head": 4, "n_embd": 128, "dropout": 0.0, "sliding_window": 64,
        "prior": "kneser_ney", "ngram_order": 7, "cross_fit_folds": 10, "cache_lm": True, "context_experts": False,
    },
    "train": {
        "max_steps": 1200, "batch_size": 1, "window_size": 0, "lr": 0.02, "lr_embedding": 0.02, "lr_head": 0.003,
        "weight_decay": 0.0, "warmup_steps": 20, "max_tokens": 0, "ema_decay": 0.0,
    },
}  # fmt: skip


def random_settings(automatic: Settings, vocab_size: int, budget: float, rng: random.Random) -> Settings:
    """Return settings around the automatic ones, of about the same cost.

    Args:
        automatic: what the rule chose.
        vocab_size: V.
        budget: minutes.
        rng: a source of random numbers.
    """
    width = automatic.model["n_embd"]
    width = rng.choice([value for value in WIDTHS if width / 2 <= value <= 2 * width])
    model = automatic.model | {
        "n_layer": rng.choice((1, 2, 3, 4)),
        "n_embd": width,
        "n_head": width // 32,
        "ngram_order": rng.choice([order for order in (5, 7, 10) if order <= automatic.model["ngram_order"]]),
        "dropout": rng.choice((0.0, 0.1, 0.2, 0.3)),
    }
    window = rng.choice([size for size in (256, 512, 1024, 2048) if size <= model["block_size"]])
    rates = {key: automatic.train[key] * 2 ** rng.uniform(-1, 1) for key in ("lr", "lr_embedding", "lr_head")}
    train = automatic.train | rates | {
        "window_size": window,
        "batch_size": max(1, rng.choice((512, 1024, 2048)) // window),
        "weight_decay": rng.choice((0.0, 0.1, 0.3)),
        "lr_decay_fraction": rng.choice((0.3, 0.5, 0.8)),
    }  # fmt: skip
    settings = Settings(model, train)
    steps = automatic.train["max_steps"] * rng.choice((0.5, 1.0, 2.0))
    seconds = max(60 * budget, automatic.train["max_steps"] * step_seconds(automatic, vocab_size))
    settings.train["max_steps"] = max(1, round(min(steps, seconds / step_seconds(settings, vocab_size))))
    return settings


def sliding_loss(model: LanguageModel, val: torch.Tensor) -> float:
    """Return the loss of a text, (M,), in sliding windows."""
    model.eval()
    block_size = model.params.block_size
    return evaluate_loss(model, sliding_windows(val, block_size, block_size // 2, 4)).loss


def train_folio(inputs: TrainingInputs, model_params: dict[str, Any], train_params: dict[str, Any]) -> float:
    """Return the sliding loss after a training, or infinity if it diverged."""
    model, trainer = inputs.prepare_training(model_params, train_params)
    assert trainer
    trainer.model.train()
    try:
        while trainer.step < trainer.params.max_steps:
            trainer.take_step()
        trainer.check_finite()
    except FolioError:
        return math.inf
    return sliding_loss(model, inputs.val)


def train_gpt2(inputs: TrainingInputs, seconds: float) -> tuple[float, int]:
    """Return the sliding loss of the GPT-2 at its best point, and the steps until then."""
    torch.manual_seed(1)
    started, steps = time.perf_counter(), 20
    for _ in peer.train(peer.Peer(inputs.vocab_size), inputs.train, 1, steps):
        pass
    steps = max(peer.STEPS, round(seconds / (time.perf_counter() - started) * steps))
    gpt2 = peer.Peer(inputs.vocab_size)
    best, best_step, weights = math.inf, 0, {}
    every = max(50, steps // GPT2_POINTS)
    for step in peer.train(gpt2, inputs.train, 1, steps):
        if step % every and step != steps:
            continue
        gpt2.eval()
        loss = evaluate_loss(gpt2, blockwise_windows(inputs.val, peer.BLOCK, 64)).loss
        gpt2.train()
        if loss < best:
            best, best_step = loss, step
            weights = {name: value.clone() for name, value in gpt2.state_dict().items()}
        elif step - best_step >= GPT2_PATIENCE * every:
            break
    gpt2.load_state_dict(weights)
    return sliding_loss(gpt2, inputs.val), best_step


def measure(path: Path, tries: int) -> dict[str, Any]:
    """Return the losses of a text, in the working directory."""
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    Path("data/raw").mkdir(parents=True)
    shutil.copy(path, "data/raw/corpus.txt")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "stages.tokenize"], env=environment, check=True)
    inputs = read_inputs()
    counts = torch.bincount(inputs.val[1:].int(), minlength=inputs.vocab_size).numpy()
    tokenizer = load_tokenizer(Path("data/tokens/tokenizer.json"))
    per_byte = (len(inputs.val) - 1) / int(counts @ tokenizer.token_lengths()[1])
    automatic, budget = inputs.choose_settings(), inputs.document["budget"]
    started = time.perf_counter()
    losses = [per_byte * train_folio(inputs, automatic.model, automatic.train)]
    seconds = time.perf_counter() - started
    rng = random.Random(path.name)
    kept: list[Settings] = [automatic]
    for number in range(tries):
        settings = random_settings(automatic, inputs.vocab_size, budget, rng)
        losses.append(per_byte * train_folio(inputs, settings.model, settings.train))
        kept.append(settings)
        print(f"  {number + 1}: {losses[-1]:.4f} {describe_difference(settings, automatic)}", flush=True)
    others = losses[1:]
    best = min(range(1, tries + 1), key=losses.__getitem__)
    try:
        fixed: float | None = per_byte * train_folio(inputs, FIXED["model"], FIXED["train"])
    except (FolioError, ValidationError, ValueError, RuntimeError) as error:
        print(f"  fixed: {error}")
        fixed = None
    gpt2, gpt2_steps = train_gpt2(inputs, GPT2_TIME * seconds)
    return {
        "automatic": losses[0],
        "best": losses[best],
        "median": statistics.median(others),
        "distance": losses[0] - losses[best],
        "fixed": fixed,
        "gpt2": per_byte * gpt2,
        "gpt2_steps": gpt2_steps,
        "best_settings": describe_difference(kept[best], automatic),
    }


def describe_difference(settings: Settings, automatic: Settings) -> str:
    """Return the settings that differ from the automatic ones."""
    pairs = ((settings.model, automatic.model), (settings.train, automatic.train))
    return ", ".join(
        f"{key} {value:.3g}" for ours, theirs in pairs for key, value in ours.items() if value != theirs.get(key)
    )


def write_rows(rows: list[dict[str, Any]]) -> None:
    """Write the rows to benchmarks/other_settings.tsv and, without the best settings, to .md."""
    table = pd.DataFrame(rows).sort_values("bytes")
    table.to_csv(ROWS, sep="\t", index=False, float_format="%.6g")
    shown = table.drop(columns="best_settings")
    for column in ("automatic", "best", "median", "distance", "fixed", "gpt2"):
        shown[column] = shown[column].map(lambda loss: "refused" if pd.isna(loss) else f"{loss:.3f}")
    ROWS.with_suffix(".md").write_text(shown.to_markdown(index=False, disable_numparse=True) + "\n")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--tries", default=12, show_default=True, help="Random settings for each text.")
def main(names: tuple[str, ...], tries: int) -> None:
    """Measure every text that has no row yet, and write the table."""
    texts = {text.name: text for text in read_table()}
    rows: list[Any] = pd.read_csv(ROWS, sep="\t").to_dict("records") if ROWS.exists() else []
    for name in names or DEFAULT_TEXTS:
        if name in {row["name"] for row in rows}:
            continue
        path = (fetch_text(texts[name]) if name in texts else FOLDER / f"{name}.txt").resolve()
        print(name, flush=True)
        here = Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                row = measure(path, tries)
            finally:
                os.chdir(here)
        rows.append({"name": name, "bytes": path.stat().st_size} | row)
        write_rows(rows)
    write_rows(rows)


if __name__ == "__main__":
    main()
