"""Compare the speed of generation with that of a GPT-2 of `transformers`: `python -m benchmarks.generation`.

The models have random weights, which do not affect the speed: 4 layers, 128 wide, blocks of 64, without and with a
prior, and the default of params.yaml. The model without a prior also runs with the plain KV cache of `forward`, to
show what the fast decoders are worth. One stream and 64, after a warm-up, medians of three runs of 512 characters, with
one or two threads, whichever is faster. The peer keeps the whole text in its KV cache. Also prints the time to the
first character of the trained model, once loaded and from the start of `folio sample` on a terminal. Writes
benchmarks/generation.json and .md. Needs the results of the pipeline and the extra `bench`.
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

from benchmarks.results import read_conditions, write_results
from stages.core.device import tokens_to_device
from stages.core.params import without_auto
from stages.generation.params import GenerationParams, SamplingParams
from stages.generation.sampling import sample_token
from stages.generation.streaming import draw_uniforms, generate_tokens
from stages.generation.text_model import TextModel
from stages.models.base import LanguageModel, build_model
from stages.models.params import ModelParams
from stages.tokenizers.registry import load_tokenizer
from stages.tokenizers.token_files import load_tokens

LENGTH, RUNS = 512, 3
SMALL = {
    "kind": "gpt",
    "block_size": 64,
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "sliding_window": 0,
    "cache_lm": True,
}


def tokens_per_second(generate: Callable[[int], Any], streams: int) -> float:
    """Return the median speed of all streams together, with the faster number of threads."""
    best = float("inf")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        generate(streams)
        best = min(best, median_seconds(lambda: generate(streams)))
    return streams * LENGTH / best


def median_seconds(action: Callable[[], Any]) -> float:
    """Return the median time of several runs."""
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def first_after_load() -> float:
    """Return the seconds from a loaded model to its first character."""
    seconds = []
    for _ in range(RUNS):
        text_model = TextModel.load()
        start = time.perf_counter()
        next(text_model.stream("\n", GenerationParams(max_new_tokens=10), 1))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def first_from_start() -> float:
    """Return the seconds from the command to the first character on a terminal, after the prompt."""
    terminal, command_end = pty.openpty()
    command = [sys.executable, "-m", "stages.sample", "--prompt", "A", "--num-samples", "1"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=command_end, stderr=subprocess.DEVNULL) as process:
        output = b""
        while len(output.lstrip(b"A")) == 0 and len(output) < 2:
            output += os.read(terminal, 1)
        seconds = time.perf_counter() - start
        process.kill()
    os.close(terminal)
    os.close(command_end)
    return seconds


def folio_generator(model: LanguageModel) -> Callable[[int], Any]:
    """Return a function that generates a number of streams with a Folio model."""

    def generate(streams: int) -> None:
        prompt = torch.zeros(streams, 1, dtype=torch.int64)
        generate_tokens(model, prompt, LENGTH, SamplingParams(), list(range(streams)))

    return generate


def plain_kv_cache(model: LanguageModel) -> Callable[[int], Any]:
    """Return a function that generates with the KV cache of `forward`, without the fast decoders of `gpt`."""

    @torch.inference_mode()
    def generate(streams: int) -> None:
        kv_cache, uniforms = model.new_kv_cache(), draw_uniforms(list(range(streams)), LENGTH)
        ids = torch.zeros(streams, 1, dtype=torch.int64)
        for index in range(LENGTH):
            ids = sample_token(model(ids, kv_cache=kv_cache)[:, -1], uniforms[:, index], SamplingParams())

    return generate


def peer_generator(vocab_size: int) -> Callable[[int], Any]:
    """Return a function that generates a number of streams with the peer."""
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

    def generate(streams: int) -> None:
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

    return generate


def main() -> None:
    """Print and write the table."""
    conditions = read_conditions()
    document = YAML(typ="safe").load(Path("params.yaml"))["model"]
    tokenizer = load_tokenizer(Path("data/tokens/tokenizer.json"))
    train = tokens_to_device(load_tokens(Path("data/tokens"), tokenizer)[0], torch.device("cpu"))
    contenders: dict[str, Callable[[int], Any]] = {"GPT-2 of transformers, 4 x 128": peer_generator(len(tokenizer))}
    for name, changes in {
        "Folio, 4 x 128, blocks of 64, no prior": SMALL | {"prior": "none"},
        "Folio, 4 x 128, blocks of 64, with prior": SMALL | {"prior": "kneser_ney"},
        "Folio, default": {},
    }.items():
        model = build_model(
            ModelParams.model_validate(without_auto(document, ModelParams) | changes), len(tokenizer)
        ).eval()
        model.fit(train)
        contenders[name] = folio_generator(model)
        if changes.get("prior") == "none":
            contenders[f"{name}, without the fast decoders"] = plain_kv_cache(model)
    rows: list[dict[str, str]] = []
    peer: dict[int, float] = {}
    for name, generate in contenders.items():
        row = {"": name}
        for streams in (1, 64):
            speed = tokens_per_second(generate, streams)
            peer.setdefault(streams, speed)
            row[f"{streams} stream{'s' if streams > 1 else ''}, characters/s"] = f"{speed:,.0f}"
            row[f"times the peer ({streams})"] = f"{speed / peer[streams]:.1f}"
        rows.append(row)
        print(row, flush=True)
    print(write_results("generation", conditions, pd.DataFrame(rows)))
    print(f"first character: {first_after_load() * 1000:.0f} ms after the model is loaded")
    print(f"{statistics.median(first_from_start() for _ in range(RUNS)):.2f} s after the start of `folio sample`")


if __name__ == "__main__":
    main()
