"""The interface of every model: token ids in, logits of the next token out.

Shapes, here and in every model: B batch, T time (positions), C channels (n_embd), H heads, E head size, V vocabulary.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from stages.models.kv_cache import KVCache
from stages.models.params import ModelParams
from stages.models.registry import MODELS


class Decoder(Protocol):
    """Predict the next token of one text, or of several texts of equal length, that grow."""

    def step(self, ids: Tensor) -> Tensor:
        """Append ids, (B, T), to the texts and return the logits of the next token, (B, V)."""


class LanguageModel(nn.Module):
    """A model of the next token.

    Attributes:
        supports_kv_cache: whether `forward` reads and writes the KV cache that it is given.
        supports_bfloat16: whether the constructor takes a `compute_dtype`.
        uncompiled_methods: names of the methods that `torch.compile` has to leave out.
        compute_dtype: precision of the activations; the weights are float32.
    """

    supports_kv_cache: ClassVar[bool] = False
    supports_bfloat16: ClassVar[bool] = False
    uncompiled_methods: ClassVar[tuple[str, ...]] = ()
    compute_dtype = torch.float32

    def __init__(self, params: ModelParams, vocab_size: int) -> None:
        super().__init__()
        self.params = params
        self.vocab_size = vocab_size

    @property
    def context_length(self) -> int:
        """Return how many of the last tokens affect the prediction of the next one."""
        return self.params.block_size

    @property
    def ngram_model(self) -> "LanguageModel | None":
        """Return the n-gram model of the training text that the model contains, or None."""
        return None

    def forward(self, ids: Tensor, *, text_positions: Tensor | None = None, kv_cache: KVCache | None = None) -> Tensor:
        """Return the logits of the next token at every position.

        Args:
            ids: token ids, (B, T), with T at most the block size.
            text_positions: where in the training text the ids are, (B, T); given in training only. A model that counts
                n-grams uses it to leave out the counts of the part that it is trained on.
            kv_cache: keys and values of the tokens before `ids`; those of `ids` are added to it.

        Returns:
            logits, (B, T, V) float32.
        """
        raise NotImplementedError

    def predict_from(self, ids: Tensor, first: int, text_positions: Tensor | None = None) -> Tensor:
        """Return the logits of `forward` at positions `first` …, (B, T - first, V); a model may save work by it."""
        logits: Tensor = self(ids, text_positions=text_positions)[:, first:]
        return logits

    def fit(self, tokens: Tensor, token_classes: Tensor | None = None) -> None:
        """Learn from the training text what is learned by counting, before training.

        Args:
            tokens: token ids, (N,).
            token_classes: see `Tokenizer.token_classes`, (3, V); without them, no token is a letter or ends a line.
        """

    def adaptive_logits(self, text: Tensor, start: int, chunk_size: int) -> Iterator[Tensor]:
        """Yield the logits of the tokens of a text from `start` on, each from counts of all of the text before it.

        The text begins with the training text. The model itself stays as it is. One that has counted nothing
        (`ngram_model` is None) has no such logits.

        Args:
            text: token ids, (N,).
            start: the first token to predict, at least 1.
            chunk_size: after so many tokens, n-gram counts are updated, and the output layer of `gpt` learns.

        Yields:
            the logits of each chunk, (1, T, V).
        """
        raise NotImplementedError

    def new_kv_cache(self) -> KVCache:
        """Return an empty KV cache for `forward`."""
        return KVCache(self.params.block_size, self.params.block_size)

    def make_decoder(self, batch_size: int) -> Decoder | None:  # noqa: ARG002
        """Return a decoder of `batch_size` texts that is faster than `forward` with a KV cache, or None."""
        return None


def build_model(params: ModelParams, vocab_size: int, compute_dtype: torch.dtype = torch.float32) -> LanguageModel:
    """Return a new model of the kind `params.kind`, with weights drawn from PyTorch's global generator.

    A model without support for the requested precision computes in float32; see its `compute_dtype`.
    """
    module, class_name = MODELS[params.kind].split(":")
    model_class: type[LanguageModel] = getattr(import_module(module), class_name)
    options = {"compute_dtype": compute_dtype} if model_class.supports_bfloat16 else {}
    return model_class(params, vocab_size, **options)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters; n-gram counts are not among them."""
    return sum(parameter.numel() for parameter in model.parameters())
