"""The notebook's first model: a bigram table, before and after training, on the global generator."""

import math
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own habit
from torch.optim import AdamW

from stages.models.bigram import Model
from stages.models.params import ModelParams
from stages.tokenizers.char import CharTokenizer
from stages.tools.lecture.params import LectureParams
from stages.tools.lecture.text_examples import draw

PARAMS = ModelParams(
    kind="bigram", block_size=8, n_layer=1, n_head=1, n_embd=2, dropout=0.0, window=0, prior="none", order=2, folds=2,
    recent=False,
)  # fmt: skip


def bigram(
    train: Tensor, xb: Tensor, yb: Tensor, tokenizer: CharTokenizer, params: LectureParams
) -> tuple[dict[str, Any], list[float], list[float]]:
    """Make the table, train it as the notebook does, and write before and after.

    Returns:
        the numbers; the loss of every step; the seconds that each of `params.steps` took from the start.
    """
    torch.manual_seed(params.seed)
    model = Model(PARAMS, len(tokenizer))
    logits = model(xb)
    numbers: dict[str, Any] = {
        "logits_0_0": logits[0, 0, :3].tolist(),
        "expected_initial_loss": math.log(len(tokenizer)),
        "initial_loss": F.cross_entropy(logits.flatten(0, 1), yb.flatten()).item(),
        "sample_before": write(model, tokenizer, 100),
    }
    optimizer = AdamW(model.parameters(), lr=1e-3)
    losses: list[float] = []
    seconds: list[float] = []
    start = time.perf_counter()
    for steps in sorted(params.steps):
        while len(losses) < steps:
            losses.append(step(model, optimizer, train))
        seconds.append(time.perf_counter() - start)
        numbers.setdefault("loss_by_steps", {})[str(steps)] = losses[-1]
        if steps == 10_000:
            numbers["loss_after_10000_steps"] = losses[-1]
            numbers["trained_logits_0"] = model(torch.zeros(1, 1, dtype=torch.int64))[0, 0, :6].tolist()
            numbers["sample_after"] = write(model, tokenizer, 300)
    return numbers, losses, seconds


def step(model: Model, optimizer: AdamW, train: Tensor) -> float:
    """Draw a batch from the global generator and learn from it; give its loss."""
    xb, yb = draw(train, torch.default_generator)
    loss = F.cross_entropy(model(xb).flatten(0, 1), yb.flatten())
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimizer.step()
    return loss.item()


def write(model: Model, tokenizer: CharTokenizer, length: int) -> str:
    """Write `length` characters after token 0, and put the generator back, so that training does not notice.

    As the notebook draws, by torch.multinomial; `stages.generation.streaming` draws so that samples do not depend on each
    other.
    """
    state = torch.get_rng_state()
    ids = [0]
    with torch.no_grad():
        for _ in range(length):
            probabilities = model(torch.tensor([ids[-1:]]))[0, -1].softmax(-1)
            ids.append(int(torch.multinomial(probabilities, 1)))
    torch.set_rng_state(state)
    return tokenizer.decode(ids[1:])
