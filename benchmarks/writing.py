"""Characters a second, against the `transformers` library's GPT-2 with its own cache: `python -m benchmarks.writing`.

Models with fresh weights (what they say is nothing, how fast they say it is the same): 4 layers, 128 wide, blocks of
64, without and with the prior; and the default of params.yaml. One stream and 64, after a warm-up, medians of five runs
of 512 characters, with one thread or two, whichever is faster. The peer sees the whole text, since its cache cannot
slide. Then, for the trained model in models/: the time to its first character, once loaded and from the start of
`folio sample` on a terminal. Writes benchmarks/writing.md. Needs the pipeline's results and the extra `bench`.
"""

import os
import pty
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ruamel.yaml import YAML
from transformers import GPT2Config, GPT2LMHeadModel

from stages.generation.sampling import SamplingParams
from stages.generation.streaming import generate
from stages.generation.text_model import TextModel
from stages.models.base import LanguageModel, build_model
from stages.models.params import ModelParams
from stages.tokenizers.registry import load_tokenizer
from stages.tokenizers.token_files import load_tokens

LENGTH, RUNS = 512, 5
SMALL = {
    "kind": "gpt",
    "block_size": 64,
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "sliding_window": 0,
    "cache_lm": True,
}


def rate(write: Callable[[int], Any], streams: int) -> float:
    """Give the median characters a second, of all streams together, with as many threads as are fastest."""
    best = float("inf")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        write(streams)
        best = min(best, median_seconds(lambda: write(streams)))
    return streams * LENGTH / best


def median_seconds(act: Callable[[], Any]) -> float:
    """Give the median time of some runs."""
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def first_after_load() -> float:
    """Give the seconds from a model in memory to its first character, the first ever."""
    seconds = []
    for _ in range(RUNS):
        writer = TextModel.load()
        start = time.perf_counter()
        next(writer.stream("\n", 10, SamplingParams(), 1))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def first_from_start() -> float:
    """Give the seconds from the command to the first character on a terminal, the prompt not counted."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "stages.sample", "--prompt", "A", "--num-samples", "1"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=theirs, stderr=subprocess.DEVNULL) as process:
        seen = b""
        while len(seen.lstrip(b"A")) == 0 and len(seen) < 2:
            seen += os.read(ours, 1)
        seconds = time.perf_counter() - start
        process.kill()
    os.close(ours)
    os.close(theirs)
    return seconds


def folio_writer(model: LanguageModel) -> Callable[[int], Any]:
    """Give a function that writes so many streams with our model."""

    def write(streams: int) -> None:
        prompt = torch.zeros(streams, 1, dtype=torch.int64)
        generate(model, prompt, LENGTH, SamplingParams(), list(range(streams)))

    return write


def peer_writer(vocab_size: int) -> Callable[[int], Any]:
    """Give a function that writes so many streams with the peer."""
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=LENGTH + 1,
        n_embd=128,
        n_layer=4,
        n_head=4,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = GPT2LMHeadModel(config).eval()

    def write(streams: int) -> None:
        prompt = torch.zeros(streams, 1, dtype=torch.int64)
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=LENGTH,
            min_new_tokens=LENGTH,
            do_sample=True,
            top_k=0,
            use_cache=True,
        )

    return write


def main() -> None:
    """Print and write the table."""
    document = YAML(typ="safe").load(Path("params.yaml"))["model"]
    tokenizer = load_tokenizer(Path("data/tokens/tokenizer.json"))
    train, _ = load_tokens(Path("data/tokens"), tokenizer)
    contenders: dict[str, Callable[[int], Any]] = {"GPT-2 of transformers, 4 x 128": peer_writer(len(tokenizer))}
    for name, changes in {
        "Folio, 4 x 128, blocks of 64, no prior": SMALL | {"prior": "none"},
        "Folio, 4 x 128, blocks of 64, with prior": SMALL | {"prior": "kneser_ney"},
        "Folio, default": {},
    }.items():
        model = build_model(ModelParams.model_validate(document | changes), len(tokenizer)).eval()
        model.fit(train)
        contenders[name] = folio_writer(model)
    rows: list[dict[str, str]] = []
    peer: dict[int, float] = {}
    for name, write in contenders.items():
        row = {"": name}
        for streams in (1, 64):
            speed = rate(write, streams)
            peer.setdefault(streams, speed)
            row[f"{streams} stream{'s' if streams > 1 else ''}, characters/s"] = f"{speed:,.0f}"
            row[f"times the peer ({streams})"] = f"{speed / peer[streams]:.1f}"
        rows.append(row)
        print(row, flush=True)
    table: str = pd.DataFrame(rows).to_markdown(index=False)
    (Path(__file__).parent / "writing.md").write_text(table + "\n")
    print(table)
    print(f"first character: {first_after_load() * 1000:.0f} ms after the model is loaded")
    print(f"{statistics.median(first_from_start() for _ in range(RUNS)):.2f} s after the start of `folio sample`")


if __name__ == "__main__":
    main()
