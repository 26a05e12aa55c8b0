"""Characters a second, against the `transformers` library's GPT-2 with its own cache: `python -m benchmarks.writing`.

Models with fresh weights (what they say is nothing, how fast they say it is the same): 4 layers, 128 wide, blocks of
64, without and with the prior; and the default of params.yaml. One stream and 64, after a warm-up, medians of five runs
of 512 characters, on one thread each, since that is what both are fastest with. The peer sees the whole
text, since its cache cannot slide. Needs tokens and `pip install -e '.[bench]'`.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ruamel.yaml import YAML
from transformers import GPT2Config, GPT2LMHeadModel

from stages.models.base import LanguageModel, build
from stages.params.model import ModelParams
from stages.text.tokenizer import CharTokenizer
from stages.text.tokens import load_tokens
from stages.writing.choosing import Choice
from stages.writing.generate import generate

LENGTH, RUNS = 512, 5
SMALL = {"kind": "gpt", "block_size": 64, "n_layer": 4, "n_head": 4, "n_embd": 128, "window": 0, "recent": True}


def rate(write: Callable[[int], Any], streams: int) -> float:
    """Give the median characters a second, of all streams together."""
    write(streams)
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        write(streams)
        seconds.append(time.perf_counter() - start)
    return streams * LENGTH / statistics.median(seconds)


def folio_writer(model: LanguageModel) -> Callable[[int], Any]:
    """Give a function that writes so many streams with our model."""

    def write(streams: int) -> None:
        prompt = torch.zeros(streams, 1, dtype=torch.int64)
        generate(model, prompt, LENGTH, Choice(), list(range(streams)))

    return write


def peer_writer(vocabulary_size: int) -> Callable[[int], Any]:
    """Give a function that writes so many streams with the peer."""
    config = GPT2Config(
        vocab_size=vocabulary_size,
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
    """Print the table."""
    torch.set_num_threads(1)
    document = YAML(typ="safe").load(Path("params.yaml"))["model"]
    tokenizer = CharTokenizer.load(Path("data/tokens/tokenizer.json"))
    train, _ = load_tokens(Path("data/tokens"), tokenizer)
    contenders: dict[str, Callable[[int], Any]] = {"GPT-2 of transformers, 4 x 128": peer_writer(len(tokenizer))}
    for name, changes in {
        "Folio, 4 x 128, blocks of 64, no prior": SMALL | {"prior": "none"},
        "Folio, 4 x 128, blocks of 64, with prior": SMALL | {"prior": "kneser_ney"},
        "Folio, default": {},
    }.items():
        model = build(ModelParams.model_validate(document | changes), len(tokenizer)).eval()
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
    print(pd.DataFrame(rows).to_markdown(index=False))


if __name__ == "__main__":
    main()
