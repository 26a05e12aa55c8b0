"""Decode one text with `gpt` on the CPU, with NumPy.

A token of a small model needs few multiplications but hundreds of operations, and NumPy starts an operation several
times faster than PyTorch does. As in `gpt_torch_decoder.py`, each norm only scales to a length of one; its factor
sqrt(C) is part of the next matrix. Queries and keys are stored with the two numbers of each rotated pair side by side,
so that a rotation is a product of complex numbers.
"""

import math

import numpy as np
import torch
from torch import Tensor

from stages.models.base import Decoder
from stages.models.gpt import (
    GPT,
    LOG_PROB_SCALE,
    LOG_PROB_SHIFT,
    LOGIT_CAP,
    NGRAM_MIX_WEIGHT,
)
from stages.models.gpt_block import GPTBlock, attention_window, rotary_frequencies
from stages.models.kv_cache import LayerCache
from stages.models.ngram.counts import FloatArray
from stages.models.ngram.expert_scores import (
    DIFFERENCE_SCALE,
    FIRST_SCALE,
    HORIZONS,
    INITIAL_LOG_PROB,
    MIN_LOG_PROB,
    ExpertScores,
)
from stages.models.ngram.numpy_experts import NumpyExperts


class NumpyGPTDecoder(Decoder):
    """A `Decoder` of one text for `gpt` in float32, with or without a prior."""

    def __init__(self, model: GPT) -> None:
        self.model, self.block_size = model, model.params.block_size
        self.length = 0
        self.layers: list[NumpyBlock] = []
        root = model.params.n_embd**0.5
        self.embedding, self.head = _array(model.embedding.weight), _array(model.head) * np.float32(root / LOGIT_CAP)
        size = model.params.n_embd // model.params.n_head
        self.frequencies = rotary_frequencies(size).double().numpy()
        self.rotation_scale = np.array([1.0, size**0.5])[:, None, None]  # of queries and keys
        self.root = np.float32(root)
        self.experts: MixedExperts | None = None

    def step(self, ids: Tensor) -> Tensor:
        """Append ids, (1, T), to the text and return the logits of the next token, (1, V).

        Raises:
            ValueError: if there are several texts.
        """
        if len(ids) != 1:
            raise ValueError(f"this decoder was made for one text, not for {len(ids)}")
        if not self.length:
            return self._prefill(ids[:, -self.block_size :])
        for token in ids[0].tolist():
            logits = self._decode(token)
        return torch.from_numpy(logits)[None]

    def _prefill(self, ids: Tensor) -> Tensor:
        """Process the prompt, (1, T), with the model itself, and keep its KV cache: (1, V)."""
        model, kv_cache = self.model, self.model.new_kv_cache()
        logits: Tensor = model(ids, kv_cache=kv_cache)[:, -1]
        past = attention_window(model.params) - 1
        self.layers = [
            NumpyBlock(block, kv_cache.layer(block), past) for block in model.blocks if isinstance(block, GPTBlock)
        ]
        if model.has_experts:
            self.experts = MixedExperts(model, ids[0].tolist(), kv_cache.scores)
        self.length = ids.shape[1]
        return logits

    def _decode(self, token: int) -> FloatArray:
        """Process one token: (V,)."""
        x = self.embedding[token]
        if self.experts:
            x = x + self.experts.append(token)
        x = _unit(x) * self.root
        rotation = (np.exp(1j * self.length * self.frequencies) * self.rotation_scale).astype(np.complex64)
        self.length += 1
        for layer in self.layers:
            x = layer.decode(x, rotation)
        x = _unit(x)
        logits: FloatArray = np.tanh(self.head @ x) * np.float32(LOGIT_CAP)
        return self.experts.mix(logits, x * self.root) if self.experts else logits


class MixedExperts:
    """What the experts add to the network: features of its input, and a weighted share of its output.

    Args:
        model: a model with `prior: kneser_ney`.
        ids: the text so far.
        scores: how well the experts predicted that text.
    """

    def __init__(self, model: GPT, ids: list[int], scores: ExpertScores) -> None:
        index = model.context_index if model.params.context_experts else None
        self.experts = NumpyExperts(model.prior, model.params.block_size, model.params.cache_lm, index)
        for token in ids:
            self.experts.append(token)
        assert scores.averages is not None, "run the model on the text first"
        assert scores.log_probs is not None, "run the model on the text first"
        self.averages, self.log_probs = _array(scores.averages[0]).copy(), _array(scores.log_probs[0])
        self.num_ngram_experts = model.num_ngram_experts
        self.scores: FloatArray = np.zeros(self.averages.size, np.float32)
        self.log_prob_projection, self.score_projection = (
            _array(model.log_prob_projection),
            _array(model.score_projection),
        )
        self.bias, self.hidden_gate = _array(model.expert_bias), _array(model.hidden_gate)
        self.score_gate = _array(model.score_gate)
        self.rates = 1 / np.array(HORIZONS, np.float32)[:, None]
        self.scales = np.full(len(self.bias), DIFFERENCE_SCALE, np.float32)
        self.scales[0] = FIRST_SCALE

    def append(self, token: int) -> FloatArray:
        """Append a token to the text and return what the experts add to its embedding, (C,)."""
        log_probs = np.maximum(self.log_probs[:, token], MIN_LOG_PROB)  # from here on as in `expert_scores.py`
        self.averages += (log_probs - self.averages) * self.rates
        scores = self.averages - self.averages[:, :1]
        scores[:, 0] = self.averages[:, 0] - INITIAL_LOG_PROB
        self.scores = (scores * self.scales).ravel()
        self.experts.append(token)
        self.log_probs = self.experts.log_probs()
        inputs = (self.log_probs[: self.num_ngram_experts].ravel() + LOG_PROB_SHIFT) * LOG_PROB_SCALE
        features: FloatArray = self.log_prob_projection @ inputs + self.score_projection @ self.scores
        return features

    def mix(self, logits: FloatArray, h: FloatArray) -> FloatArray:
        """Return the logits of the model, (V,), from those of the network, (V,), and its last activations, (C,)."""
        last = self.num_ngram_experts - 1
        weights = self.bias + self.hidden_gate @ h + self.score_gate @ self.scores
        weights[last] -= weights[last + 1 :].sum()  # see `GPT.mix_experts`
        probs = logits + weights @ self.log_probs
        probs = np.exp(probs - probs.max())
        counted = np.exp(self.log_probs[last])
        mixed: FloatArray = np.log((1 - NGRAM_MIX_WEIGHT) / probs.sum() * probs + NGRAM_MIX_WEIGHT * counted)
        return mixed


class NumpyBlock:
    """One block: its weights, and its keys and values of the text.

    Args:
        block: a block of the model.
        cache: its keys and values of the text so far.
        max_past: positions to keep.
    """

    def __init__(self, block: GPTBlock, cache: LayerCache, max_past: int) -> None:
        self.max_past, self.n_head, self.width = max_past, block.n_head, block.attention_out.shape[0]
        size = self.width // self.n_head
        order = np.arange(size).reshape(2, -1).T.ravel()  # each pair that is rotated side by side
        qkv = _array(block.qkv).reshape(3, self.n_head, size, self.width) * np.float32(self.width**0.5)
        qkv[:2] = qkv[:2, :, order]
        self.qkv, self.attention_out = qkv.reshape(-1, self.width), _array(block.attention_out)
        self.mlp_up, self.mlp_down = _array(block.mlp_up), _array(block.mlp_down) * np.float32(self.width)
        past = _array(cache.kept())[:, 0].copy()
        past[0] = past[0][..., order]
        self.end = past.shape[2]
        self.past = np.zeros((2, self.n_head, 2 * max_past + 64, size), np.float32)
        self.past[:, :, : self.end] = past

    def decode(self, x: FloatArray, rotation: FloatArray) -> FloatArray:
        """Apply the block to one position, (C,): (C,).

        Args:
            x: activations.
            rotation: complex factors for queries and for keys, which are also scaled by sqrt(E), (2, 1, E / 2).
        """
        qkv = (self.qkv @ _unit(x)).reshape(3, self.n_head, -1)
        qk = qkv[:2]
        qk /= np.sqrt(np.add.reduce(qk * qk, -1, keepdims=True))
        qk.view(np.complex64)[...] *= rotation
        if self.end == self.past.shape[2]:
            self.past[:, :, : self.max_past] = self.past[:, :, self.end - self.max_past :]
            self.end = self.max_past
        self.past[:, :, self.end] = qkv[1:]
        self.end += 1
        keys, values = self.past[:, :, max(0, self.end - 1 - self.max_past) : self.end]
        scores = keys @ qkv[0][:, :, None]
        weights = np.exp(scores - np.maximum.reduce(scores, 1, keepdims=True))
        y = (weights.transpose(0, 2, 1) @ values)[:, 0] / np.add.reduce(weights, 1)
        x = x + self.attention_out @ y.ravel()
        hidden = np.maximum(self.mlp_up @ _unit(x), 0)
        hidden *= hidden
        return x + self.mlp_down @ hidden


def _array(x: Tensor) -> FloatArray:
    """Return a tensor as an array, which shares its memory."""
    array: FloatArray = x.detach().float().numpy()
    return array


def _unit(x: FloatArray) -> FloatArray:
    """Scale a vector to a length of one."""
    return x / math.sqrt(x.dot(x))
