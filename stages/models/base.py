"""The interface of every model: token ids in, logits of the next token out.

Shapes, here and in every model: B batch, T time (positions), C channels (n_embd), H heads, E head size, V vocabulary, N
length of a text or B * T flattened positions, S tokens of a whole window. "experts", "kinds" (of contexts: word, line),
"contexts" (kinds x lengths), "lengths" (of contexts) and "order" are also dimensions.
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
    """Incremental decoding of a batch of texts of equal length; `step` appends tokens to them."""

    def step(self, ids: Tensor) -> Tensor:
        """Append ids, (B, T), to the texts and return the logits of the next token, (B, V)."""


class LanguageModel(nn.Module):
    """A model of the next token.

    Attributes:
        supports_kv_cache: whether `forward` reads and writes the KV cache that it is given.
        takes_compute_dtype: whether the constructor takes the argument `compute_dtype`.
        uncompiled_methods: names of the methods that `torch.compile` has to leave out.
        compute_dtype: precision of the activations; the weights are float32.
    """

    supports_kv_cache: ClassVar[bool] = False
    takes_compute_dtype: ClassVar[bool] = False
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

    def forward(self, ids: Tensor, *, train_positions: Tensor | None = None, kv_cache: KVCache | None = None) -> Tensor:
        """Return the logits of the next token at every position.

        Args:
            ids: token ids, (B, T), with T at most the block size.
            train_positions: positions of `ids` in the training text, (B, T); only given for windows of that text. They
                make a model with n-grams use out-of-fold counts.
            kv_cache: keys and values of the tokens before `ids`; those of `ids` are added to it.

        Returns:
            logits, (B, T, V) float32.
        """
        raise NotImplementedError

    def predict_from(self, ids: Tensor, first: int, train_positions: Tensor | None = None) -> Tensor:
        """Return the logits of `forward` from position `first` on, (B, T - first, V).

        A model may override this to skip work on earlier positions.
        """
        logits: Tensor = self(ids, train_positions=train_positions)[:, first:]
        return logits

    def fit(self, tokens: Tensor, token_classes: Tensor | None = None) -> None:
        """Count the training text, once, before gradient training. Models without counts do nothing.

        Args:
            tokens: token ids, (N,).
            token_classes: what each token is, (3, V), as returned by `Tokenizer.token_classes`. Without them, no token
                is a letter or ends a line.
        """

    def adaptive_logits(self, text: Tensor, start: int, chunk_size: int) -> Iterator[Tensor]:
        """Yield the logits of the tokens of a text from `start` on, with counts that are updated after every chunk.

        The n-gram counts are of the text before the chunk. The cache language model sees at most one block, or the
        chunk if that is longer; it ends with the chunk and begins no earlier than `start - 1`. Word and line contexts
        see the whole text before each token. The text begins with the training text. The model itself stays unchanged.
        Only a model with counts (`ngram_model` is not None) implements this.

        Args:
            text: token ids, (N,).
            start: the first token to predict, at least 1.
            chunk_size: tokens after which n-gram counts are updated and the output layer of `gpt` learns.

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
    options = {"compute_dtype": compute_dtype} if model_class.takes_compute_dtype else {}
    return model_class(params, vocab_size, **options)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable parameters; n-gram counts are not among them."""
    return sum(parameter.numel() for parameter in model.parameters())
