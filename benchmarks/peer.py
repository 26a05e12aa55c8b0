"""The peer: a GPT-2 of the `transformers` library in nanoGPT's CPU configuration, trained as nanoGPT trains it.

4 layers, 4 heads, 128 wide, blocks of 64, batches of 12, 2,000 steps, AdamW from 1e-3 to 1e-4 along a cosine after
100 steps of warm-up, betas 0.9 and 0.99, weight decay 0.1, no dropout. Its loss is measured like Folio's.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name
from torch.optim import AdamW
from transformers import GPT2Config, GPT2LMHeadModel
from typing_extensions import override

from stages.models.base import LanguageModel
from stages.models.params import ModelParams
from stages.train.batches import BatchSampler

STEPS, WARMUP, BATCH, BLOCK = 2000, 100, 12, 64
LR, LAST_LR, DECAY = 1e-3, 1e-4, 0.1


class Peer(LanguageModel):
    """A GPT-2 with the interface of Folio's models."""

    def __init__(self, vocab_size: int) -> None:
        params = ModelParams(kind="lecture_gpt", block_size=BLOCK, n_layer=4, n_head=4, n_embd=128)
        super().__init__(params, vocab_size)
        self.gpt2 = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=vocab_size,
                n_positions=BLOCK,
                n_embd=128,
                n_layer=4,
                n_head=4,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
                bos_token_id=0,
                eos_token_id=0,
            )
        )

    @override
    def forward(self, ids: Tensor, **_: object) -> Tensor:
        logits: Tensor = self.gpt2(ids, use_cache=False).logits
        return logits


def learning_rate(step: int, steps: int) -> float:
    """Return nanoGPT's learning rate at a step, from 0, of a training of `steps` steps."""
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    progress = (step - WARMUP) / (steps - WARMUP)
    return LAST_LR + 0.5 * (1 + math.cos(math.pi * progress)) * (LR - LAST_LR)


def train(model: Peer, tokens: Tensor, seed: int, steps: int = STEPS) -> Iterator[int]:
    """Train, and yield the number of every step when it is finished."""
    decayed = [weight for weight in model.parameters() if weight.ndim >= 2]
    others = [weight for weight in model.parameters() if weight.ndim < 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = AdamW(groups, lr=LR, betas=(0.9, 0.99))
    batches = BatchSampler(tokens, BLOCK, BATCH, seed)
    model.train()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        batch = batches.sample()
        loss = F.cross_entropy(model(batch.inputs).flatten(0, 1), batch.targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield step + 1
