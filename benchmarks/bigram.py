"""Train the bigram table of the lecture for ten million steps: `python -m benchmarks.bigram`.

The steps are those of lecture/lecture.py: 4 windows of 8 characters, AdamW with a learning rate of 0.001. The logits
of a position depend on its character only, so a step needs the counts of the pairs in its batch, from which the
gradient follows without automatic differentiation; a test compares the two. Writes benchmarks/bigram.json and .md.
Needs the text (`dvc repro download`).
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from benchmarks.results import read_conditions, write_results
from stages.models.bigram import Bigram
from stages.models.params import ModelParams
from stages.tokenizers.char import CharTokenizer

MILESTONES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
BATCH_SIZE, BLOCK_SIZE, AT_ONCE, LAST = 4, 8, 1000, 1000
MEAN = f"mean of the last {LAST:,}"
LR, BETA1, BETA2, EPSILON, WEIGHT_DECAY = 1e-3, 0.9, 0.999, 1e-8, 0.01


def pair_counts(text: Tensor, vocab_size: int) -> Iterator[Tensor]:
    """Yield, for each step, how often each pair of characters occurs in its batch, (V, V)."""
    steps = torch.arange(AT_ONCE)[:, None, None]
    while True:
        starts = torch.randint(len(text) - BLOCK_SIZE - 1, (AT_ONCE, BATCH_SIZE))
        positions = starts[:, :, None] + torch.arange(BLOCK_SIZE)
        pairs = (steps * vocab_size + text[positions]) * vocab_size + text[positions + 1]
        counts = torch.bincount(pairs.flatten(), minlength=AT_ONCE * vocab_size**2)
        yield from counts.view(AT_ONCE, vocab_size, vocab_size).float().unbind()


def train(table: Tensor, counts: Iterator[Tensor]) -> Iterator[tuple[int, float | None]]:
    """Train a table of logits, (V, V), in place; yield each step and, close to a milestone, the loss of its batch."""
    mean, square = torch.zeros_like(table), torch.zeros_like(table)
    for step, count in enumerate(counts, 1):
        log_probs = table.log_softmax(1)
        due = any(milestone - LAST < step <= milestone for milestone in MILESTONES)
        loss = float(-(count * log_probs).sum() / count.sum()) if due else None
        gradient = log_probs.exp_().mul_(count.sum(1, keepdim=True)).sub_(count).div_(BATCH_SIZE * BLOCK_SIZE)
        table.mul_(1 - LR * WEIGHT_DECAY)
        mean.lerp_(gradient, 1 - BETA1)
        square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        scale = square.sqrt().div_((1 - BETA2**step) ** 0.5).add_(EPSILON)
        table.addcdiv_(mean, scale, value=-LR / (1 - BETA1**step))
        yield step, loss


@torch.inference_mode()
def main() -> None:
    """Print and write the table."""
    conditions = read_conditions()
    torch.set_num_threads(1)
    torch.manual_seed(1337)  # as in the lecture, whose batches these are
    corpus = Path("data/raw/corpus.txt").read_text(encoding="utf-8")
    tokenizer = CharTokenizer.from_text(corpus)
    ids = torch.from_numpy(tokenizer.encode(corpus)).long()
    text, val = ids[: int(0.9 * len(ids))], ids[int(0.9 * len(ids)) :]
    table = Bigram(ModelParams(kind="bigram", block_size=BLOCK_SIZE), len(tokenizer)).table.weight.clone()
    rows, losses = [], list[float]()
    for step, loss in train(table, pair_counts(text, len(tokenizer))):
        losses += [] if loss is None else [loss]
        if step in MILESTONES:
            val_loss = float(F.cross_entropy(table[val[:-1]], val[1:]))
            mean = sum(losses[-LAST:]) / LAST
            rows.append({"steps": step, "last batch": losses[-1], MEAN: mean, "validation text": val_loss})
            print(rows[-1], flush=True)
        if step == MILESTONES[-1]:
            break
    formats = {"steps": "{:,}"} | dict.fromkeys(("last batch", MEAN, "validation text"), "{:.4f}")
    print(write_results("bigram", conditions, pd.DataFrame(rows).round(4), formats=formats))


if __name__ == "__main__":
    main()
