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
is therefore mixed with NGRAM_MIX_WEIGHT of the last n-gram expert. In training, the network would learn to rely on it.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from stages.models.base import Decoder, LanguageModel
from stages.models.gpt_block import Block, attention_window, linear, norm, rotary_table, zero_parameter
from stages.models.kneser_ney import KneserNey
from stages.models.kv_cache import KVCache
from stages.models.ngram.context_index import ContextIndex
from stages.models.ngram.cross_fitting import CrossFittedExperts
from stages.models.ngram.expert_scores import ExpertScores, count_features
from stages.models.ngram.ngram_experts import count_experts, expert_log_probs
from stages.models.ngram.ram_check import check_memory
from stages.models.ngram.running_experts import RunningExperts
from stages.models.ngram.word_line_contexts import CONTEXT_KINDS
from stages.models.output_learning import OutputLearner
from stages.models.params import ModelParams

LOGIT_CAP = 15.0
NGRAM_MIX_WEIGHT = 0.02
PRIOR_SHIFT, PRIOR_SCALE = 4.0, 0.3  # bring log-probabilities into a range of about -1 … 1


class GPT(LanguageModel):
    """Embedding, `n_layer` blocks, output head; with a prior also n-gram counts and the weights that mix them in."""

    supports_kv_cache = True
    supports_bfloat16 = True
    uncompiled_methods = ("_expert_outputs_uncompiled",)

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
        self.cross_fitted: CrossFittedExperts | None = None
        if self.has_prior:
            self.prior = KneserNey(params, vocab_size)
            self.num_ngram_experts = count_experts(params.cache_lm)
            experts = self.num_ngram_experts + len(CONTEXT_KINDS) * params.context_experts
            if params.context_experts:
                self.context_index = ContextIndex(vocab_size)
            self.prior_features = zero_parameter(params.n_embd, self.num_ngram_experts * vocab_size)
            self.recent_features = zero_parameter(params.n_embd, count_features(experts))
            # A new model predicts what the last n-gram expert predicts.
            self.expert_bias = nn.Parameter(torch.eye(experts)[self.num_ngram_experts - 1])
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
        self.cross_fitted = CrossFittedExperts(levels, self.vocab_size, folds, cache_lm).to(tokens.device)
        if self.params.context_experts:
            self.context_index.fit(tokens, token_classes, folds)

    def adaptive_logits(self, text: Tensor, start: int, chunk_size: int) -> Iterator[Tensor]:
        """See `LanguageModel`. Other experts than the n-grams use every token before a prediction.

        The output layer learns from each chunk after it has been predicted; the weights of the model stay.
        """
        token_classes = self.context_index.token_classes if self.params.context_experts else None
        experts = RunningExperts(self.params, self.vocab_size, text, start, token_classes)
        kv_cache = self.new_kv_cache()
        learner = OutputLearner(self._output_weights(), self._output)
        for begin in range(start, len(text), chunk_size):
            end = min(begin + chunk_size, len(text))
            log_probs = experts.predict(begin, end)
            hidden = self._apply_network(text[None, begin - 1 : end - 1], None, kv_cache, log_probs=log_probs)
            yield learner.logits(*hidden)
            learner.learn(text[begin:end])

    def forward(self, ids: Tensor, *, text_positions: Tensor | None = None, kv_cache: KVCache | None = None) -> Tensor:
        """See `LanguageModel`."""
        return self._output(self._output_weights(), *self._apply_network(ids, text_positions, kv_cache))

    def predict_from(self, ids: Tensor, first: int, text_positions: Tensor | None = None) -> Tensor:
        """See `LanguageModel`."""
        return self._output(self._output_weights(), *self._apply_network(ids, text_positions, None, first))

    def _apply_network(
        self,
        ids: Tensor,
        text_positions: Tensor | None,
        kv_cache: KVCache | None,
        first: int = 0,
        log_probs: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return the inputs of the output layer at positions `first` …; see `_output`.

        The network leaves out earlier positions that cannot affect them. The log-probabilities of the experts may be
        given, (B, T, experts, V).
        """
        start = kv_cache.append(ids) if kv_cache is not None else 0
        begin = max(0, first - self.params.n_layer * (attention_window(self.params) - 1))
        x = self.embedding(ids[:, begin:])
        if self.has_prior:
            # On the CPU, the experts look up tables in pieces of variable size, which cannot be compiled.
            predict = self._expert_outputs_uncompiled if ids.device.type == "cpu" else self._expert_outputs
            log_probs, recent = predict(ids, text_positions, kv_cache, log_probs)
            log_probs, recent = log_probs[:, begin:], recent[:, begin:]
            inputs = log_probs[:, :, : self.num_ngram_experts].flatten(2)
            x = x + linear((inputs + PRIOR_SHIFT) * PRIOR_SCALE, self.prior_features)
            x = x + linear(recent, self.recent_features)
        h = self._apply_blocks(norm(x), start + begin, kv_cache)[:, first - begin :]
        return (h,) if log_probs is None else (h, log_probs[:, first - begin :], recent[:, first - begin :])

    def _output_weights(self) -> tuple[Tensor, ...]:
        """Return the weights of the output layer."""
        return (self.head, self.expert_bias, self.expert_gate, self.recent_gate) if self.has_prior else (self.head,)

    def _output(
        self, weights: Sequence[Tensor], h: Tensor, log_probs: Tensor | None = None, recent: Tensor | None = None
    ) -> Tensor:
        """Return the logits of the model, (B, T, V).

        Args:
            weights: those of `_output_weights`, or others of the same shapes.
            h: output of the last block, (B, T, C).
            log_probs: of each expert, (B, T, experts, V).
            recent: features of `ExpertScores`, (B, T, features).
        """
        logits = LOGIT_CAP * torch.tanh(linear(h, weights[0]).float() / LOGIT_CAP)
        if log_probs is None or recent is None:
            return logits
        _, bias, gate, recent_gate = weights
        return self.mix_experts(logits, bias + linear(h, gate).float() + linear(recent, recent_gate), log_probs)

    def mix_experts(self, logits: Tensor, weights: Tensor, log_probs: Tensor) -> Tensor:
        """Return the logits of the model, (…, V).

        Args:
            logits: of the network, (…, V).
            weights: of the experts, (…, experts).
            log_probs: of the experts, (…, experts, V).
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
        from stages.models.gpt_decoder import GptDecoder
        from stages.models.gpt_numpy_decoder import NumpyGptDecoder

        return NumpyGptDecoder(self) if batch_size == 1 and self.head.device.type == "cpu" else GptDecoder(self)

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

    def _expert_outputs_uncompiled(
        self, ids: Tensor, text_positions: Tensor | None, kv_cache: KVCache | None, log_probs: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return self._expert_outputs(ids, text_positions, kv_cache, log_probs)

    def _expert_outputs(
        self, ids: Tensor, text_positions: Tensor | None, kv_cache: KVCache | None, log_probs: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of each expert, (B, T, experts, V), and the features of `ExpertScores`."""
        if log_probs is None:
            log_probs = self._expert_log_probs(ids, text_positions, kv_cache)
        scores = ExpertScores() if kv_cache is None else kv_cache.scores
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
