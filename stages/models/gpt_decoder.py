"""The modern gpt, reading one character at a time in as few operations as that takes.

For one character, what costs is the number of operations, not their size. So the scale of each norm, sqrt(C), is moved
into the product that follows it (the squared ReLU makes C of it), both heads' halves turn in one product, and keys and
values are stored together. The results are those of `gpt.Model` but for rounding.

Rotary positions say how far apart two characters are, not where they stand: so the text may be longer than the block.
Attention then looks back over `window` positions, or a whole block, and the oldest falls out with each new character;
nothing is read twice. Positions are counted in float64, so that they stay exact for as long as anyone will wait.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from stages.models import gpt
from stages.models.kv_cache import Cache, Memory
from stages.models.ngram.incremental import CountsReader

TURNS = 4096  # positions whose sines are worked out at once


class GptReader:
    """A `Reader` for the modern gpt, with its prior."""

    def __init__(self, model: gpt.Model) -> None:
        params = model.params
        self.model, self.n_head, self.size = model, params.n_head, params.block_size
        self.past = 0
        self.layers: list[Layer] = []
        self.counts: CountsReader | None = None
        self.root = params.n_embd**0.5
        self.head = model.head.t() * (self.root / gpt.LOGIT_CAP)

    def read(self, ids: Tensor) -> Tensor:
        """See `Reader`."""
        if not self.past:
            return self._begin(ids[:, -self.size :])
        for new in ids.unbind(1):
            logits = self._step(new)
        return logits

    def _begin(self, ids: Tensor) -> Tensor:
        model, params = self.model, self.model.params
        cache = Cache((params.window or self.size) - 1)
        logits: Tensor = model(ids, cache=cache)[:, -1]
        self.layers = [Layer(block, cache.memory(block)) for block in model.blocks if isinstance(block, gpt.Block)]
        if params.prior == "kneser_ney":
            self.counts = CountsReader(model.prior, ids, self.size if params.recent else 0)
        self.past = ids.shape[1]
        self._turn()
        return logits

    def _step(self, ids: Tensor) -> Tensor:
        """Read one character of each text, (B,): (B, V)."""
        model, at = self.model, self.past % TURNS
        if not at:
            self._turn()
        self.past += 1
        x = F.embedding(ids, model.embedding.weight)
        if self.counts:
            log_prior = self.counts.read(ids)
            x = torch.addmm(x, (log_prior.flatten(1) + gpt.PRIOR_SHIFT).mul_(gpt.PRIOR_SCALE), model.feature.t())
        x = unit(x) * self.root
        cos, sin = self.cos[at], self.sin[at]
        for layer in self.layers:
            x = layer.step(x, cos, sin)
        x = unit(x)
        logits = torch.tanh(torch.mm(x, self.head)).mul_(gpt.LOGIT_CAP)
        if not self.counts:
            return logits
        trust = torch.addmm(model.beta, x, model.gate.t(), alpha=self.root)  # B, experts
        return torch.baddbmm(logits[:, None], trust[:, None], log_prior)[:, 0]

    def _turn(self) -> None:
        """Work out the turns of the next positions for queries, and, scaled, for keys: (TURNS, 2, 1, E)."""
        size = self.model.params.n_embd // self.n_head
        first = self.past // TURNS * TURNS
        positions = torch.arange(first, first + TURNS, dtype=torch.float64)
        cos, sin = (each.repeat(1, 2) for each in gpt.rotary_table(positions, size))
        sin[:, : size // 2] *= -1
        scale = torch.tensor([1.0, size**0.5])[:, None, None]
        device = self.model.head.device
        self.cos, self.sin = ((each[:, None, None] * scale).float().to(device) for each in (cos, sin))


class Layer:
    """One block: its weights, turned for products from the right, and what it remembers."""

    def __init__(self, block: gpt.Block, memory: Memory) -> None:
        self.width, self.n_head, self.memory = block.project.shape[0], block.n_head, memory
        self.half = self.width // self.n_head // 2
        self.qkv, self.project = (block.qkv.flatten(0, 1) * self.width**0.5).t(), block.project.t()
        self.up, self.down = block.up.t(), block.down.t()

    def step(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Read one position, (B, C): (B, C)."""
        qkv = torch.mm(unit(x), self.qkv).view(len(x), 3, self.n_head, -1)
        qk = unit(qkv[:, :2])
        torch.addcmul(qk * cos, qk.roll(self.half, -1), sin, out=qkv[:, :2])
        keys, values = self.memory.extend(qkv[:, 1:].transpose(0, 1).unsqueeze(3)).flatten(1, 2).unbind(0)
        scores = torch.bmm(qkv[:, 0].reshape(len(keys), 1, -1), keys.mT)
        y = torch.bmm(scores.softmax(-1), values).view_as(x)
        x = torch.addmm(x, y, self.project)
        hidden = torch.mm(unit(x), self.up).relu_()
        return torch.addmm(x, hidden.square_(), self.down, alpha=self.width)


def unit(x: Tensor) -> Tensor:
    """Scale the last dimension to a length of one."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length
