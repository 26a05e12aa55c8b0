"""The last rung: a transformer in a modern form, alone or on a prior that counts.

Pre-norm blocks; RMSNorm without parameters, after the embedding as well; rotary positions (Su et al. 2021,
arXiv:2104.09864); norms on queries and keys; squared ReLU (So et al. 2021, arXiv:2109.08668); no biases; an output
head of its own; logits capped by 15 tanh(z / 15). What writes into the residual stream starts at zero, so that a fresh
model is the identity and its first loss is that of the prior, or ln V.

With `prior: kneser_ney` the network learns what counting leaves over (Li et al. 2022, arXiv:2210.14431), and how far to
trust each way of counting at each position (the gated mixing of Mahoney 2005, "Adaptive Weighing of Context Models"):
logits = network + sum over experts of (beta + gate . h) * log p. It sees their log-probabilities as well.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from stages.models import kneser_ney
from stages.models.attention import attend, attend_locally
from stages.models.base import LanguageModel
from stages.models.kv_cache import Cache
from stages.models.ngram.counts import Level
from stages.models.ngram.mixture import count_experts, opinions
from stages.models.params import ModelParams

ROTARY_BASE = 1000.0
LOGIT_CAP = 15.0
PRIOR_SHIFT, PRIOR_SCALE = 4.0, 0.3  # bring log-probabilities to about -1 … 1


class Model(LanguageModel):
    """Embedding, `n_layer` blocks, head; on a prior also its counts, a map of its log-probabilities, their weights."""

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__(params, vocabulary_size)
        self.embedding = nn.Embedding(vocabulary_size, params.n_embd)
        self.blocks = nn.ModuleList(Block(params) for _ in range(params.n_layer))
        self.head = silent(vocabulary_size, params.n_embd)
        cos, sin = rotary_table(torch.arange(params.block_size), params.n_embd // params.n_head)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        if params.prior == "kneser_ney":
            self.prior = kneser_ney.Model(params, vocabulary_size)
            experts = count_experts(params.recent)
            self.feature = silent(params.n_embd, experts * vocabulary_size)
            self.beta = nn.Parameter(torch.eye(experts)[0])  # a fresh model is the first expert
            self.gate = silent(experts, params.n_embd)

    def fit(self, tokens: Tensor) -> list[Level] | None:
        """Count the training text, where there is a prior."""
        return self.prior.fit(tokens) if self.params.prior == "kneser_ney" else None

    def forward(self, ids: Tensor, log_prior: Tensor | None = None, cache: Cache | None = None) -> Tensor:
        """(B, T) -> (B, T, V); T is at most the block size.

        `log_prior`, (B, T, experts, V), stands in for the prior's own log-probabilities: in training, cross-fitted
        ones. A cache is given the keys and values.
        """
        if log_prior is None and self.params.prior == "kneser_ney":
            log_prior = opinions(self.prior.rows, self.prior.find(ids), ids, self.params.recent)
        x = self.embedding(ids)
        if log_prior is not None:
            x = x + linear((log_prior.flatten(2) + PRIOR_SHIFT) * PRIOR_SCALE, self.feature)
        h = self._network(norm(x), cache)
        logits = LOGIT_CAP * torch.tanh(linear(h, self.head).float() / LOGIT_CAP)
        if log_prior is None:
            return logits
        trust = self.beta + linear(h, self.gate).float()  # B, T, experts
        return logits + (trust[:, :, None] @ log_prior).squeeze(2)

    def _network(self, x: Tensor, cache: Cache | None) -> Tensor:
        """Run the blocks: (B, T, C) -> (B, T, C)."""
        x = x.to(self.stream_dtype)
        cos, sin = (self.get_buffer(name)[: x.shape[1], None, None].to(x.dtype) for name in ("cos", "sin"))
        for block in self.blocks:
            x = block(x, cos, sin, cache)
        return norm(x)


class Block(nn.Module):
    """Positions speak (attention), then each thinks (feed-forward); both add to the residual stream.

    With `window`, a position hears no further back than that; blocks on top of one another reach further.
    """

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        width = params.n_embd
        self.n_head, self.dropout = params.n_head, params.dropout
        self.window = params.window
        self.qkv = hidden(3, width, width)  # query, key, value
        self.project = silent(width, width)
        self.up = hidden(4 * width, width)
        self.down = silent(width, 4 * width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C); a position sees itself and what stands before it."""
        x = x + self._drop(self._attend(norm(x), cos, sin, cache))
        return x + self._drop(linear(F.relu(linear(norm(x), self.up)).square(), self.down))

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Cache | None) -> Tensor:
        batch, length, width = x.shape
        qkv = linear(x, self.qkv.flatten(0, 1)).view(batch, length, 3, self.n_head, -1)  # B, T, 3, H, C / H
        q, k = rotate(norm(qkv[:, :, :2]), cos, sin).unbind(2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), qkv[:, :, 2].transpose(1, 2)  # B, H, T, C / H
        if cache:
            cache.extend(self, k, v)
        near = 0 < self.window < length
        y = attend_locally(q, k, v, self.window) if near else attend(q, k, v, causal=True)
        return linear(y.transpose(1, 2).reshape(batch, length, width), self.project)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def norm(x: Tensor) -> Tensor:
    """Scale the last dimension to a root mean square of one (Zhang & Sennrich 2019, arXiv:1910.07467)."""
    return F.rms_norm(x, (x.shape[-1],), eps=1e-6)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply (…, in) by a weight, (out, in), in the precision of `x`."""
    return F.linear(x, weight.to(x.dtype))


def rotary_table(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Give cosines and sines of the angle position · base^(-2i/size), each (positions, size / 2)."""
    speeds = ROTARY_BASE ** (-torch.arange(0, size, 2) / size)
    angles = torch.outer(positions, speeds)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pair (i, i + half) of the last dimension of `x` by its position's angle."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def hidden(*shape: int) -> nn.Parameter:
    """Make a matrix, or several, uniform in ±sqrt(3) · 0.5 / sqrt(inputs)."""
    bound = 3**0.5 * 0.5 * shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def silent(*shape: int) -> nn.Parameter:
    """Make a matrix of zeros: it says nothing until it has learned to."""
    return nn.Parameter(torch.zeros(shape))
