"""The first model of the notebook: a bigram table, before and after training with the global generator."""

import math
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name
from torch.optim import AdamW

from stages.models.bigram import Bigram
from stages.models.params import ModelParams
from stages.tokenizers.char import CharTokenizer
from stages.tools.lecture.params import LectureParams
from stages.tools.lecture.text_examples import sample_batch


def train_bigram(
    train: Tensor, inputs: Tensor, targets: Tensor, tokenizer: CharTokenizer, params: LectureParams
) -> tuple[dict[str, Any], list[float], list[float]]:
    """Train the table as the notebook does, and sample from it before and after.

    Returns:
        the results; the loss of every step; the seconds from the start to each of `params.steps`.
    """
    torch.manual_seed(params.seed)
    model = Bigram(ModelParams(kind="bigram", block_size=8), len(tokenizer))
    logits = model(inputs)
    numbers: dict[str, Any] = {
        "logits_0_0": logits[0, 0, :3].tolist(),
        "expected_initial_loss": math.log(len(tokenizer)),
        "initial_loss": F.cross_entropy(logits.flatten(0, 1), targets.flatten()).item(),
        "sample_before": sample_text(model, tokenizer, 100),
    }
    optimizer = AdamW(model.parameters(), lr=1e-3)
    losses: list[float] = []
    seconds: list[float] = []
    start = time.perf_counter()
    for steps in sorted(params.steps):
        while len(losses) < steps:
            losses.append(take_step(model, optimizer, train))
        seconds.append(time.perf_counter() - start)
        numbers.setdefault("loss_by_steps", {})[str(steps)] = losses[-1]
        if steps == 10_000:
            numbers["loss_after_10000_steps"] = losses[-1]
            numbers["trained_logits_0"] = model(torch.zeros(1, 1, dtype=torch.int64))[0, 0, :6].tolist()
            numbers["sample_after"] = sample_text(model, tokenizer, 300)
    return numbers, losses, seconds


def take_step(model: Bigram, optimizer: AdamW, train: Tensor) -> float:
    """Train on a batch sampled from the global generator, and return its loss."""
    inputs, targets = sample_batch(train)
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.item()


def sample_text(model: Bigram, tokenizer: CharTokenizer, length: int) -> str:
    """Return `length` characters sampled after token 0 with torch.multinomial, as in the notebook.

    The state of the global generator is restored, so that sampling does not affect training.
    """
    state = torch.get_rng_state()
    ids = [0]
    with torch.no_grad():
        for _ in range(length):
            probabilities = model(torch.tensor([ids[-1:]]))[0, -1].softmax(-1)
            ids.append(int(torch.multinomial(probabilities, 1)))
    torch.set_rng_state(state)
    return tokenizer.decode(ids[1:])
