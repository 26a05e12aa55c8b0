"""Decode with any model: process what is new in a text, and return the logits of the next token."""

import torch
from torch import Tensor
from typing_extensions import override

from stages.models.base import Decoder, LanguageModel


def make_decoder(model: LanguageModel, batch_size: int) -> Decoder:
    """Return the fastest decoder of `batch_size` texts; the model must be in evaluation mode."""
    decoder = model.make_decoder(batch_size)
    if decoder is not None:
        return decoder
    return BlockDecoder(model) if model.supports_kv_cache else WindowDecoder(model)


class WindowDecoder(Decoder):
    """Decode with `forward` on the last `context_length` tokens, which are processed again for every token."""

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.text: Tensor | None = None

    @override
    def step(self, ids: Tensor) -> Tensor:
        self.text = ids if self.text is None else torch.cat((self.text, ids), dim=1)
        self.text = self.text[:, -self.model.context_length :]
        logits: Tensor = self.model(self.text)[:, -1]
        return logits


class BlockDecoder(Decoder):
    """Decode with a KV cache a model whose position embeddings end with the block.

    When the block is full, its older half is dropped and the newer half is processed again, so that the cost per token
    does not grow with the text.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model, self.block_size = model, model.params.block_size
        self.text: Tensor | None = None
        self.kv_cache = model.new_kv_cache()

    @override
    def step(self, ids: Tensor) -> Tensor:
        self.text = ids[:, -self.block_size :] if self.text is None else torch.cat((self.text, ids), dim=1)
        if self.text.shape[1] > self.block_size:
            self.text = self.text[:, -max(1, self.block_size // 2) :]
            self.kv_cache = self.model.new_kv_cache()
        logits: Tensor = self.model(self.text[:, self.kv_cache.length :], kv_cache=self.kv_cache)
        return logits[:, -1]
