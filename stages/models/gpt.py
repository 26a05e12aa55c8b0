"""A small modern transformer, optionally combined with n-gram experts.

Pre-norm blocks; RMSNorm without parameters, also after the embedding; rotary position embeddings (Su et al. 2021,
arXiv:2104.09864); RMSNorm of queries and keys; squared ReLU (So et al. 2021, arXiv:2109.08668); no biases; an untied
output head; the network's logits capped at ±15 by 15 tanh(z / 15). The output head, the gates and all projections into
the residual stream are initialized to zero: a new model predicts what its last n-gram expert predicts, or
without a prior a uniform distribution.

With `prior: kneser_ney`, the network learns the residual of n-gram models (Li et al. 2022, arXiv:2210.14431) and the
weight of each expert at each position. This is log-linear interpolation whose weights the network computes; compare the
logistic mixing of PAQ (Mahoney 2005, "Adaptive Weighing of Context Models"):

    logits = network + sum over experts of (bias + hidden_gate · h + score_gate · scores) * log p

where `network` is the capped logits of the output head, and h the normalized output of the last block. `scores` says
how well each expert has predicted the last tokens (`expert_scores.py`). The scores and the log-probabilities of the
n-gram experts are also inputs of the network. For a context expert, log p is replaced by log p - log p', where p' is
the last n-gram expert, which it backs off to. A context expert that has seen nothing therefore adds nothing. Its
log-probabilities are not inputs of the network, because that did not lower the loss.

A sum of logarithms can be wrong by dozens of nats where all experts are surprised. Outside of training, the prediction
is therefore mixed with NGRAM_MIX_WEIGHT of the last n-gram expert. In training, the network would learn to rely on it.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from typing_extensions import override

from stages.models.base import Decoder, LanguageModel
from stages.models.dynamic_evaluation import LearnerMixture
from stages.models.gpt_block import GPTBlock, attention_window, linear, norm, rotary_table, zero_parameter
from stages.models.kneser_ney import KneserNey
from stages.models.kv_cache import KVCache
from stages.models.ngram.adaptive_experts import AdaptiveExperts
from stages.models.ngram.context_index import ContextIndex
from stages.models.ngram.cross_fitting import CrossFittedExperts
from stages.models.ngram.expert_scores import ExpertScores, num_score_features
from stages.models.ngram.ngram_experts import count_ngram_experts, expert_log_probs
from stages.models.ngram.ngram_memory import check_memory
from stages.models.ngram.word_line_contexts import CONTEXT_KINDS
from stages.models.params import ModelParams

LOGIT_CAP = 15.0
NGRAM_MIX_WEIGHT = 0.02
MAX_LOG_PROBS = 1 << 20  # of each expert, that are computed before the network in `adaptive_logits`
LOG_PROB_SHIFT, LOG_PROB_SCALE = 4.0, 0.3  # bring log-probabilities into a range of about -1 … 1


class GPT(LanguageModel):
    """Embedding, `n_layer` blocks, output head; with a prior also n-gram counts and the weights that mix them in."""

    supports_kv_cache = True
    takes_compute_dtype = True
    uncompiled_methods = ("_expert_outputs_uncompiled",)

    def __init__(self, params: ModelParams, vocab_size: int, compute_dtype: torch.dtype = torch.float32) -> None:
        super().__init__(params, vocab_size)
        self.compute_dtype = compute_dtype
        self.embedding = nn.Embedding(vocab_size, params.n_embd)
        self.blocks = nn.ModuleList(GPTBlock(params) for _ in range(params.n_layer))
        self.head = zero_parameter(vocab_size, params.n_embd)
        cos, sin = rotary_table(torch.arange(params.block_size), params.n_embd // params.n_head)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.has_experts = params.prior == "kneser_ney"
        self.cross_fitted: CrossFittedExperts | None = None
        if self.has_experts:
            self.prior = KneserNey(params, vocab_size)
            self.num_ngram_experts = count_ngram_experts(params.cache_lm)
            experts = self.num_ngram_experts + len(CONTEXT_KINDS) * params.context_experts
            if params.context_experts:
                self.context_index = ContextIndex(vocab_size)
            self.log_prob_projection = zero_parameter(params.n_embd, self.num_ngram_experts * vocab_size)
            self.score_projection = zero_parameter(params.n_embd, num_score_features(experts))
            # A new model predicts what the last n-gram expert predicts.
            self.expert_bias = nn.Parameter(torch.eye(experts)[self.num_ngram_experts - 1])
            self.hidden_gate = zero_parameter(experts, params.n_embd)
            self.score_gate = zero_parameter(experts, num_score_features(experts))

    @property
    @override
    def ngram_model(self) -> LanguageModel | None:
        return self.prior if self.has_experts else None

    def fit(self, tokens: Tensor, token_classes: Tensor | None = None) -> None:
        """Count the n-grams of the training text, with and without each of its folds, and index its contexts.

        Raises:
            WorkError: if there is not enough free memory.
        """
        if not self.has_experts:
            return
        check_memory(len(tokens), self.params.ngram_order, self.vocab_size, cross_fitting=True)
        levels = self.prior.count(tokens)
        folds, cache_lm = self.params.cross_fit_folds, self.params.cache_lm
        self.cross_fitted = CrossFittedExperts(levels, self.vocab_size, folds, cache_lm).to(tokens.device)
        if self.params.context_experts:
            self.context_index.fit(tokens, token_classes, folds)

    def adaptive_logits(self, text: Tensor, start: int, chunk_size: int) -> Iterator[Tensor]:
        """Yield the logits of a text, as described in `LanguageModel`.

        The output layer learns from each chunk after it has been predicted; the weights of the model stay as they are.
        The blocks of the network do not depend on what it learns, so they are computed for several chunks at once.
        """
        token_classes = self.context_index.token_classes if self.params.context_experts else None
        experts = AdaptiveExperts(self.params, self.vocab_size, text, start, token_classes)
        kv_cache = self.new_kv_cache()
        mixture = LearnerMixture(self._output_weights(), self._output)
        at_once = max(1, min(self.params.block_size, MAX_LOG_PROBS // self.vocab_size) // chunk_size)  # chunks
        for first in range(start, len(text), at_once * chunk_size):
            tokens = text[first : first + at_once * chunk_size]
            bounds = range(0, len(tokens), chunk_size)
            parts = [
                experts.predict_and_read(first + begin, min(first + begin + chunk_size, len(text))) for begin in bounds
            ]
            inputs = text[None, first - 1 : first - 1 + len(tokens)]
            hidden = self._apply_network(inputs, None, kv_cache, log_probs=torch.cat(parts, dim=1))
            for begin in bounds:
                chunk = slice(begin, begin + chunk_size)
                yield mixture.log_probs(*(tensor[:, chunk] for tensor in hidden))
                mixture.learn(tokens[chunk])

    @override
    def forward(self, ids: Tensor, *, train_positions: Tensor | None = None, kv_cache: KVCache | None = None) -> Tensor:
        return self._output(self._output_weights(), *self._apply_network(ids, train_positions, kv_cache))

    @override
    def predict_from(self, ids: Tensor, first: int, train_positions: Tensor | None = None) -> Tensor:
        return self._output(self._output_weights(), *self._apply_network(ids, train_positions, None, first))

    def _apply_network(
        self,
        ids: Tensor,
        train_positions: Tensor | None,
        kv_cache: KVCache | None,
        first: int = 0,
        log_probs: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the inputs of the output layer, which are the arguments of `_output` after the weights.

        Args:
            ids: token ids, (B, T).
            train_positions: as in `forward`.
            kv_cache: as in `forward`.
            first: the first position to return. The network skips earlier positions that cannot affect it.
            log_probs: log-probabilities of the experts, (B, T, experts, V), if they are known already.
        """
        past_length = kv_cache.append(ids) if kv_cache is not None else 0
        first_computed = max(0, first - self.params.n_layer * (attention_window(self.params) - 1))
        x = self.embedding(ids[:, first_computed:])
        if self.has_experts:
            # On the CPU, the experts look up tables in pieces of variable size, which cannot be compiled.
            predict = self._expert_outputs_uncompiled if ids.device.type == "cpu" else self._expert_outputs
            log_probs, scores = predict(ids, train_positions, kv_cache, log_probs)
            log_probs, scores = log_probs[:, first_computed:], scores[:, first_computed:]
            inputs = log_probs[:, :, : self.num_ngram_experts].flatten(2)
            x = x + linear((inputs + LOG_PROB_SHIFT) * LOG_PROB_SCALE, self.log_prob_projection)
            x = x + linear(scores, self.score_projection)
        skipped = first - first_computed
        h = self._apply_blocks(norm(x), past_length + first_computed, kv_cache)[:, skipped:]
        return (h,) if log_probs is None else (h, log_probs[:, skipped:], scores[:, skipped:])

    def _output_weights(self) -> tuple[Tensor, ...]:
        """Return the weights of the output layer."""
        return (self.head, self.expert_bias, self.hidden_gate, self.score_gate) if self.has_experts else (self.head,)

    def _output(
        self, weights: Sequence[Tensor], h: Tensor, log_probs: Tensor | None = None, scores: Tensor | None = None
    ) -> Tensor:
        """Return the logits of the model, (B, T, V).

        Args:
            weights: those of `_output_weights`, or others of the same shapes.
            h: normalized output of the last block, (B, T, C).
            log_probs: log-probabilities of each expert, (B, T, experts, V).
            scores: features of `ExpertScores`, (B, T, features).
        """
        logits = LOGIT_CAP * torch.tanh(linear(h, weights[0]).float() / LOGIT_CAP)
        if log_probs is None or scores is None:
            return logits
        _, bias, hidden_gate, score_gate = weights
        return self.mix_experts(logits, bias + linear(h, hidden_gate).float() + linear(scores, score_gate), log_probs)

    def mix_experts(self, logits: Tensor, weights: Tensor, log_probs: Tensor) -> Tensor:
        """Return the logits of the model, (…, V).

        Args:
            logits: logits of the network, (…, V).
            weights: weights of the experts, (…, experts).
            log_probs: log-probabilities of the experts, (…, experts, V).
        """
        last = self.num_ngram_experts - 1
        if self.params.context_experts:  # log p - log p', as weights
            own = weights[..., last] - weights[..., last + 1 :].sum(-1)
            weights = torch.cat((weights[..., :last], own[..., None], weights[..., last + 1 :]), dim=-1)
        logits = logits + (weights[..., None, :] @ log_probs).squeeze(-2)
        if self.training:
            return logits
        return torch.lerp(logits.softmax(-1), log_probs[..., last, :].exp(), NGRAM_MIX_WEIGHT).log()

    def new_kv_cache(self) -> KVCache:
        """Return a cache of the positions that the next token attends to and of the ids of the last block."""
        block_size = self.params.block_size
        return KVCache(attention_window(self.params) - 1, block_size - 1)

    def make_decoder(self, batch_size: int) -> Decoder:
        """Return the NumPy decoder for one text on the CPU, otherwise the PyTorch decoder."""
        from stages.models.gpt_numpy_decoder import NumpyGPTDecoder
        from stages.models.gpt_torch_decoder import TorchGPTDecoder

        return NumpyGPTDecoder(self) if batch_size == 1 and self.head.device.type == "cpu" else TorchGPTDecoder(self)

    def _apply_blocks(self, x: Tensor, start: int, kv_cache: KVCache | None) -> Tensor:
        """Apply the blocks to activations of the positions from `start` on: (B, T, C) -> (B, T, C)."""
        x = x.to(self.compute_dtype)
        end = start + x.shape[1]
        if end <= self.params.block_size:
            cos, sin = self.get_buffer("cos")[start:end], self.get_buffer("sin")[start:end]
        else:  # only with a KV cache
            positions = torch.arange(start, end, dtype=torch.float64)
            cos, sin = rotary_table(positions, self.params.n_embd // self.params.n_head)
            cos, sin = cos.float().to(x.device), sin.float().to(x.device)  # MPS has no float64
        cos, sin = (table[:, None, None].to(x.dtype) for table in (cos, sin))
        for block in self.blocks:
            x = block(x, cos, sin, kv_cache)
        return norm(x)

    def _expert_outputs_uncompiled(
        self, ids: Tensor, train_positions: Tensor | None, kv_cache: KVCache | None, log_probs: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return self._expert_outputs(ids, train_positions, kv_cache, log_probs)

    def _expert_outputs(
        self, ids: Tensor, train_positions: Tensor | None, kv_cache: KVCache | None, log_probs: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of each expert, (B, T, experts, V), and the features of `ExpertScores`."""
        if log_probs is None:
            log_probs = self._expert_log_probs(ids, train_positions, kv_cache)
        scores = ExpertScores() if kv_cache is None else kv_cache.scores
        return log_probs, scores.extend(ids, log_probs)

    def _expert_log_probs(self, ids: Tensor, train_positions: Tensor | None, kv_cache: KVCache | None) -> Tensor:
        """Return the log-probabilities of each expert, (B, T, experts, V).

        In training, `train_positions` selects counts that leave out the fold of each position.
        """
        if train_positions is not None:
            assert self.cross_fitted is not None, "fit the model before training it"
            return self._add_context_experts(ids, self.cross_fitted(ids, train_positions), train_positions)
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

    def _add_context_experts(self, ids: Tensor, log_probs: Tensor, train_positions: Tensor | None = None) -> Tensor:
        if not self.params.context_experts:
            return log_probs
        of_contexts = self.context_index.log_probs(ids, log_probs[:, :, -1].exp(), train_positions)
        return torch.cat((log_probs, of_contexts), dim=2)
