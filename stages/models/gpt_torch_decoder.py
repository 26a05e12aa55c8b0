"""Decode several texts with `gpt`, one token at a time, in as few operations as possible.

For a single token, the number of operations determines the time, not their size. The factor sqrt(C) of each norm is
therefore folded into the following product (squared ReLU makes it C), both halves of each head are rotated at once, and
keys and values are stored in one tensor. The results equal those of `GPT` except for
rounding and the eps of `norm`, which is left out here.

Rotary positions encode distances, so a text may be longer than the block: attention covers the last `sliding_window`
positions, or a block, and the oldest position is evicted with each new token. Rotation angles are computed in float64,
so they stay exact for long texts.
"""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.models.base import Decoder
from stages.models.gpt import GPT, LOG_PROB_SCALE, LOG_PROB_SHIFT, LOGIT_CAP
from stages.models.gpt_block import GPTBlock, rotary_table
from stages.models.kv_cache import LayerCache
from stages.models.ngram.expert_scores import ExpertScores
from stages.models.ngram.torch_experts import TorchExperts

TABLE_LENGTH = 4096  # positions whose rotations are computed at once


class TorchGPTDecoder(Decoder):
    """A `Decoder` for `gpt` in float32, with or without a prior."""

    def __init__(self, model: GPT) -> None:
        self.model, self.n_head, self.block_size = model, model.params.n_head, model.params.block_size
        self.length = 0
        self.layers: list[TorchBlock] = []
        self.experts: TorchExperts | None = None
        self.scores = ExpertScores()
        self.root = model.params.n_embd**0.5
        self.head = model.head.t() * (self.root / LOGIT_CAP)

    def step(self, ids: Tensor) -> Tensor:
        """Append ids, (B, T), to the texts and return the logits of the next token, (B, V)."""
        if not self.length:
            return self._prefill(ids[:, -self.block_size :])
        for token in ids.unbind(1):
            logits = self._decode(token)
        return logits

    def _prefill(self, ids: Tensor) -> Tensor:
        """Process the prompt, (B, T), with the model itself, and keep its KV cache: (B, V)."""
        model, kv_cache = self.model, self.model.new_kv_cache()
        logits: Tensor = model(ids, kv_cache=kv_cache)[:, -1]
        self.layers = [
            TorchBlock(block, kv_cache.layer(block)) for block in model.blocks if isinstance(block, GPTBlock)
        ]
        if model.has_experts:
            index = model.context_index if model.params.context_experts else None
            self.experts = TorchExperts(model.prior, ids, self.block_size, model.params.cache_lm, index)
            self.scores = kv_cache.scores
        self.length = ids.shape[1]
        self._compute_rotations()
        return logits

    def _decode(self, ids: Tensor) -> Tensor:
        """Process one token of each text, (B,): (B, V)."""
        model, index = self.model, self.length % TABLE_LENGTH
        if not index:
            self._compute_rotations()
        self.length += 1
        x = F.embedding(ids, model.embedding.weight)
        if self.experts:
            log_probs = self.experts.step(ids)
            features = (log_probs[:, : model.num_ngram_experts].flatten(1) + LOG_PROB_SHIFT).mul_(LOG_PROB_SCALE)
            x = torch.addmm(x, features, model.log_prob_projection.t())
            scores = self.scores.step(ids, log_probs)
            x = torch.addmm(x, scores, model.score_projection.t())
        x = _unit(x) * self.root
        cos, sin = self.cos[index], self.sin[index]
        for layer in self.layers:
            x = layer.decode(x, cos, sin)
        x = _unit(x)
        logits = torch.tanh(torch.mm(x, self.head)).mul_(LOGIT_CAP)
        if not self.experts:
            return logits
        weights = torch.addmm(model.expert_bias, x, model.hidden_gate.t(), alpha=self.root)  # B, experts
        weights = torch.addmm(weights, scores, model.score_gate.t())
        return model.mix_experts(logits, weights, log_probs)

    def _compute_rotations(self) -> None:
        """Compute the rotations of the next positions, for queries and (scaled) for keys: (TABLE_LENGTH, 2, 1, E)."""
        size = self.model.params.n_embd // self.n_head
        first = self.length // TABLE_LENGTH * TABLE_LENGTH
        positions = torch.arange(first, first + TABLE_LENGTH, dtype=torch.float64)
        cos, sin = (table.repeat(1, 2) for table in rotary_table(positions, size))
        sin[:, : size // 2] *= -1
        scale = torch.tensor([1.0, size**0.5])[:, None, None]
        device = self.model.head.device
        self.cos, self.sin = ((table[:, None, None] * scale).float().to(device) for table in (cos, sin))


class TorchBlock:
    """One block: its weights, transposed for products from the right, and its part of the KV cache."""

    def __init__(self, block: GPTBlock, cache: LayerCache) -> None:
        self.width, self.n_head, self.cache = block.attention_out.shape[0], block.n_head, cache
        self.half = self.width // self.n_head // 2
        self.qkv, self.attention_out = (block.qkv.flatten(0, 1) * self.width**0.5).t(), block.attention_out.t()
        self.mlp_up, self.mlp_down = block.mlp_up.t(), block.mlp_down.t()

    def decode(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Apply the block to one position, (B, C): (B, C)."""
        qkv = torch.mm(_unit(x), self.qkv).view(len(x), 3, self.n_head, -1)
        qk = _unit(qkv[:, :2])
        torch.addcmul(qk * cos, qk.roll(self.half, -1), sin, out=qkv[:, :2])
        keys, values = self.cache.extend(qkv[:, 1:].transpose(0, 1).unsqueeze(3)).flatten(1, 2).unbind(0)
        scores = torch.bmm(qkv[:, 0].reshape(len(keys), 1, -1), keys.mT)
        y = torch.bmm(scores.softmax(-1), values).view_as(x)
        x = torch.addmm(x, y, self.attention_out)
        hidden = torch.mm(_unit(x), self.mlp_up).relu_()
        return torch.addmm(x, hidden.square_(), self.mlp_down, alpha=self.width)


def _unit(x: Tensor) -> Tensor:
    """Scale the last dimension to a length of one."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length
