"""A small modern transformer, optionally combined with n-gram experts.

Pre-norm blocks; RMSNorm without parameters, also after the embedding; rotary position embeddings (Su et al. 2021,
arXiv:2104.09864); RMSNorm of queries and keys; squared ReLU (So et al. 2021, arXiv:2109.08668); no biases; an untied
output head; the network's logits capped at ±15 by 15 tanh(z / 15). The output head, the gate and all projections into
the residual stream are initialized to zero: a new model predicts what its last n-gram expert predicts, or
without a prior a uniform distribution.

With `prior: kneser_ney`, the network learns the residual of n-gram models (Li et al. 2022, arXiv:2210.14431) and the
weight of each expert at each position (gated mixing, Mahoney 2005, "Adaptive Weighing of Context Models"):

    logits = network + sum over experts of (bias + gate · h + recent_gate · r) * log p

where r says how well each expert has predicted the last tokens; it is also an input of the network, as are the
log-probabilities of the experts. The context experts add to another one instead: log p - log p', where p' is the expert
that they back off to, so that they have no effect where they know nothing. They are no inputs: nothing was gained.

A sum of logarithms can be wrong by dozens of nats where all experts are surprised. Outside of training, the prediction
is therefore mixed with COUNTING_SHARE of the last n-gram expert. In training, the network would learn to rely on it.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.models.attention import attention
from stages.models.base import Decoder, LanguageModel
from stages.models.kneser_ney import KneserNey
from stages.models.kv_cache import KVCache
from stages.models.ngram.context_index import ContextIndex
from stages.models.ngram.contexts import KINDS
from stages.models.ngram.cross_fitting import CrossFittedPrior
from stages.models.ngram.mixture import count_experts, expert_log_probs
from stages.models.ngram.ram_check import check_memory
from stages.models.ngram.recent import RecentScores, count_features
from stages.models.ngram.running import RunningExperts
from stages.models.params import ModelParams

ROTARY_BASE = 1000.0
LOGIT_CAP = 15.0
COUNTING_SHARE = 0.02
PRIOR_SHIFT, PRIOR_SCALE = 4.0, 0.3  # bring log-probabilities into a range of about -1 … 1


class GPT(LanguageModel):
    """Embedding, `n_layer` blocks, output head; with a prior also n-gram counts and the weights that mix them in."""

    supports_kv_cache = True
    supports_bfloat16 = True
    uncompiled_methods = ("_predict_uncompiled",)

    def __init__(self, params: ModelParams, vocab_size: int, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__(params, vocab_size)
        self.compute_dtype = compute_dtype
        self.embedding = nn.Embedding(vocab_size, params.n_embd)
        self.blocks = nn.ModuleList(Block(params) for _ in range(params.n_layer))
        self.head = zero_parameter(vocab_size, params.n_embd)
        cos, sin = rotary_table(torch.arange(params.block_size), params.n_embd // params.n_head)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.has_prior = params.prior == "kneser_ney"
        self.cross_fitted: CrossFittedPrior | None = None
        if self.has_prior:
            self.prior = KneserNey(params, vocab_size)
            self.ngram_experts = count_experts(params.cache_lm)
            experts = self.ngram_experts + len(KINDS) * params.context_experts
            if params.context_experts:
                self.context_index = ContextIndex(vocab_size)
            self.prior_features = zero_parameter(params.n_embd, self.ngram_experts * vocab_size)
            self.recent_features = zero_parameter(params.n_embd, count_features(experts))
            # A new model predicts what the last n-gram expert predicts.
            self.expert_bias = nn.Parameter(torch.eye(experts)[self.ngram_experts - 1])
            self.expert_gate = zero_parameter(experts, params.n_embd)
            self.recent_gate = zero_parameter(experts, count_features(experts))

    @property
    def ngram_model(self) -> LanguageModel | None:
        """See `LanguageModel`."""
        return self.prior if self.has_prior else None

    def fit(self, tokens: Tensor, token_classes: Tensor | None = None) -> None:
        """Count the n-grams of the training text, with and without each of its folds; see `LanguageModel`.

        Raises:
            WorkError: if there is not enough free memory.
        """
        if not self.has_prior:
            return
        check_memory(len(tokens), self.params.ngram_order, self.vocab_size, cross_fitting=True)
        levels = self.prior.count(tokens)
        folds, cache_lm = self.params.cross_fit_folds, self.params.cache_lm
        self.cross_fitted = CrossFittedPrior(levels, self.vocab_size, folds, cache_lm).to(tokens.device)
        if self.params.context_experts:
            self.context_index.fit(tokens, token_classes, folds)

    def adaptive_logits(self, text: Tensor, start: int, piece: int) -> Iterator[Tensor]:
        """See `LanguageModel`. Other experts than the n-grams use every token before a prediction."""
        token_classes = self.context_index.token_classes if self.params.context_experts else None
        experts = RunningExperts(self.params, self.vocab_size, text, start, token_classes)
        kv_cache = self.new_kv_cache()
        for begin in range(start, len(text), piece):
            end = min(begin + piece, len(text))
            log_probs = experts.predict(begin, end)
            yield self._predict(text[None, begin - 1 : end - 1], None, kv_cache, log_probs=log_probs)

    def forward(self, ids: Tensor, *, text_positions: Tensor | None = None, kv_cache: KVCache | None = None) -> Tensor:
        """See `LanguageModel`."""
        return self._predict(ids, text_positions, kv_cache)

    def predict_from(self, ids: Tensor, first: int, text_positions: Tensor | None = None) -> Tensor:
        """See `LanguageModel`."""
        return self._predict(ids, text_positions, None, first)

    def _predict(
        self,
        ids: Tensor,
        text_positions: Tensor | None,
        kv_cache: KVCache | None,
        first: int = 0,
        log_probs: Tensor | None = None,
    ) -> Tensor:
        """Return the logits at positions `first` …; the network leaves out earlier ones that cannot affect them.

        The log-probabilities of the experts may be given, (B, T, experts, V).
        """
        start = kv_cache.append(ids) if kv_cache is not None else 0
        begin = max(0, first - self.params.n_layer * (attention_window(self.params) - 1))
        x = self.embedding(ids[:, begin:])
        if self.has_prior:
            # On the CPU, the experts look up tables in pieces of variable size, which cannot be compiled.
            predict = self._predict_uncompiled if ids.device.type == "cpu" else self._predict_by_experts
            log_probs, recent = predict(ids, text_positions, kv_cache, log_probs)
            log_probs, recent = log_probs[:, begin:], recent[:, begin:]
            inputs = log_probs[:, :, : self.ngram_experts].flatten(2)
            x = x + linear((inputs + PRIOR_SHIFT) * PRIOR_SCALE, self.prior_features)
            x = x + linear(recent, self.recent_features)
        h = self._apply_blocks(norm(x), start + begin, kv_cache)[:, first - begin :]
        logits = LOGIT_CAP * torch.tanh(linear(h, self.head).float() / LOGIT_CAP)
        if log_probs is None:
            return logits
        log_probs, recent = log_probs[:, first - begin :], recent[:, first - begin :]
        weights = self.expert_bias + linear(h, self.expert_gate).float() + linear(recent, self.recent_gate)
        return self.mix_experts(logits, weights, log_probs)

    def mix_experts(self, logits: Tensor, weights: Tensor, log_probs: Tensor) -> Tensor:
        """Return the logits of the model, (…, V).

        Args:
            logits: of the network, (…, V).
            weights: of the experts, (…, experts).
            log_probs: of the experts, (…, experts, V).
        """
        last = self.ngram_experts - 1
        if self.params.context_experts:  # log p - log p', as weights
            own = weights[..., last] - weights[..., last + 1 :].sum(-1)
            weights = torch.cat((weights[..., :last], own[..., None], weights[..., last + 1 :]), dim=-1)
        logits = logits + (weights[..., None, :] @ log_probs).squeeze(-2)
        if self.training:
            return logits
        return torch.lerp(logits.softmax(-1), log_probs[..., last, :].exp(), COUNTING_SHARE).log()

    def new_kv_cache(self) -> KVCache:
        """Return a cache of the positions that the next token attends to and of the ids of the last block."""
        block_size = self.params.block_size
        return KVCache(attention_window(self.params) - 1, block_size - 1)

    def make_decoder(self, batch_size: int) -> Decoder:
        """Return the NumPy decoder for one text on the CPU, otherwise the PyTorch decoder."""
        from stages.models.gpt_decoder import GptDecoder
        from stages.models.gpt_text_decoder import GptTextDecoder

        return GptTextDecoder(self) if batch_size == 1 and self.head.device.type == "cpu" else GptDecoder(self)

    def _apply_blocks(self, x: Tensor, start: int, kv_cache: KVCache | None) -> Tensor:
        """Apply the blocks to positions `start` …: (B, T, C) -> (B, T, C)."""
        x = x.to(self.compute_dtype)
        end = start + x.shape[1]
        if end <= self.params.block_size:
            cos, sin = self.get_buffer("cos")[start:end], self.get_buffer("sin")[start:end]
        else:  # only with a KV cache
            positions = torch.arange(start, end, dtype=torch.float64)
            cos, sin = rotary_table(positions, self.params.n_embd // self.params.n_head)
            cos, sin = cos.to(x.device), sin.to(x.device)
        cos, sin = (table[:, None, None].to(x.dtype) for table in (cos, sin))
        for block in self.blocks:
            x = block(x, cos, sin, kv_cache)
        return norm(x)

    def _predict_uncompiled(
        self, ids: Tensor, text_positions: Tensor | None, kv_cache: KVCache | None, log_probs: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return self._predict_by_experts(ids, text_positions, kv_cache, log_probs)

    def _predict_by_experts(
        self, ids: Tensor, text_positions: Tensor | None, kv_cache: KVCache | None, log_probs: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of each expert, (B, T, experts, V), and the features of `RecentScores`."""
        if log_probs is None:
            log_probs = self._expert_log_probs(ids, text_positions, kv_cache)
        scores = RecentScores() if kv_cache is None else kv_cache.scores
        return log_probs, scores.extend(ids, log_probs)

    def _expert_log_probs(self, ids: Tensor, text_positions: Tensor | None, kv_cache: KVCache | None) -> Tensor:
        """Return the log-probabilities of each expert, (B, T, experts, V).

        In training, `text_positions` selects counts that leave out the fold of each position.
        """
        if text_positions is not None:
            assert self.cross_fitted is not None, "fit the model before training it"
            return self._add_context_experts(ids, self.cross_fitted(ids, text_positions), text_positions)
        if kv_cache is None or kv_cache.ids is None:
            return self._full_count_log_probs(ids)
        context, block_size = kv_cache.ids, self.params.block_size
        if context.shape[1] <= block_size:
            return self._full_count_log_probs(context)[:, -ids.shape[1] :]
        # Each position sees a block that ends with it.
        ends = range(context.shape[1] - ids.shape[1] + 1, context.shape[1] + 1)
        blocks = [context[:, max(0, end - block_size) : end] for end in ends]
        return torch.cat([self._full_count_log_probs(block)[:, -1:] for block in blocks], dim=1)

    def _full_count_log_probs(self, ids: Tensor) -> Tensor:
        log_probs = expert_log_probs(self.prior.table, self.prior.find_rows(ids), ids, self.params.cache_lm)
        return self._add_context_experts(ids, log_probs)

    def _add_context_experts(self, ids: Tensor, log_probs: Tensor, text_positions: Tensor | None = None) -> Tensor:
        if not self.params.context_experts:
            return log_probs
        of_contexts = self.context_index.log_probs(ids, log_probs[:, :, -1].exp(), text_positions)
        return torch.cat((log_probs, of_contexts), dim=2)


class Block(nn.Module):
    """Attention followed by a position-wise feed-forward network; both add to the residual stream."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        width = params.n_embd
        self.n_head, self.dropout = params.n_head, params.dropout
        self.window = attention_window(params)
        self.qkv = uniform_parameter(3, width, width)
        self.attention_out = zero_parameter(width, width)
        self.mlp_up = uniform_parameter(4 * width, width)
        self.mlp_down = zero_parameter(width, 4 * width)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, kv_cache: KVCache | None = None) -> Tensor:
        """Apply the block: (B, T, C) -> (B, T, C); cos and sin are the rotary tables, (T, 1, 1, E / 2)."""
        x = x + self._drop(self._attend(norm(x), cos, sin, kv_cache))
        return x + self._drop(linear(F.relu(linear(norm(x), self.mlp_up)).square(), self.mlp_down))

    def _attend(self, x: Tensor, cos: Tensor, sin: Tensor, kv_cache: KVCache | None) -> Tensor:
        batch, length, width = x.shape
        qkv = linear(x, self.qkv.flatten(0, 1)).view(batch, length, 3, self.n_head, -1)  # B, T, 3, H, E
        q, k = rotate(norm(qkv[:, :, :2]), cos, sin).unbind(2)
        q, k, v = q.transpose(1, 2), k.transpose(1, 2), qkv[:, :, 2].transpose(1, 2)  # B, H, T, E
        if kv_cache is not None:
            k, v = kv_cache.extend(self, k, v)
        y = attention(q, k, v, window=self.window)
        return linear(y.transpose(1, 2).reshape(batch, length, width), self.attention_out)

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def attention_window(params: ModelParams) -> int:
    """Return the number of positions that a position attends to, itself included."""
    return min(params.sliding_window or params.block_size, params.block_size)


def norm(x: Tensor) -> Tensor:
    """Scale the last dimension to a root mean square of one (Zhang & Sennrich 2019, arXiv:1910.07467)."""
    return F.rms_norm(x, (x.shape[-1],), eps=1e-6)


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply (…, in) by a weight, (out, in), in the precision of `x`."""
    return F.linear(x, weight.to(x.dtype))


def rotary_table(positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of the angles position * base^(-2i / size), (positions, size / 2) each."""
    angles = torch.outer(positions, rotary_frequencies(size).to(positions.device))
    return angles.cos(), angles.sin()


def rotary_frequencies(size: int) -> Tensor:
    """Return base^(-2i / size), (size / 2,)."""
    return ROTARY_BASE ** (-torch.arange(0, size, 2) / size)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair (i, i + half) of the last dimension of `x` by the angle of its position."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def uniform_parameter(*shape: int) -> nn.Parameter:
    """Return a weight drawn uniformly from ±sqrt(3) * 0.5 / sqrt(inputs)."""
    bound = 3**0.5 * 0.5 * shape[-1] ** -0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


def zero_parameter(*shape: int) -> nn.Parameter:
    """Return a weight of zeros."""
    return nn.Parameter(torch.zeros(shape))
