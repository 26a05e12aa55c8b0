"""A text that a model reads as it grows: what is new goes in, the logits of what follows come out."""

from typing import Protocol

import torch
from torch import Tensor

from stages.models import average, bigram, gpt, kneser_ney
from stages.models.base import LanguageModel
from stages.models.gpt_decoder import GptReader
from stages.models.kv_cache import Cache


class Reader(Protocol):
    """One text, or several of the same length side by side."""

    def read(self, ids: Tensor) -> Tensor:
        """Read what is new, (B, T), after all that was read before; give the logits, (B, V), of what follows."""


def reader_of(model: LanguageModel) -> Reader:
    """Give the reader that suits a model in evaluation mode."""
    match model:
        case gpt.Model():
            return GptReader(model)
        case bigram.Model():
            return LastReader(model, 1)
        case kneser_ney.Model():
            return LastReader(model, model.params.order - 1)
        case _:
            return BlockReader(model, cached=not isinstance(model, average.Model))


class LastReader:
    """Looks at the last `size` characters, which is all that the model looks at."""

    def __init__(self, model: LanguageModel, size: int) -> None:
        self.model, self.size = model, size
        self.text: Tensor | None = None

    def read(self, ids: Tensor) -> Tensor:
        """See `Reader`."""
        self.text = (ids if self.text is None else torch.cat((self.text, ids), dim=1))[:, -self.size :]
        logits: Tensor = self.model(self.text)[:, -1]
        return logits


class BlockReader:
    """For models whose positions are numbered, from the block's start: a block at most.

    When it is full, its older half is forgotten and the newer half read anew, so that what a character costs does not
    grow with what was written. With `cached`, characters are read once until then.
    """

    def __init__(self, model: LanguageModel, cached: bool) -> None:
        self.model, self.cached, self.size = model, cached, model.params.block_size
        self.text: Tensor | None = None
        self.cache = Cache(self.size)

    def read(self, ids: Tensor) -> Tensor:
        """See `Reader`."""
        self.text = ids[:, -self.size :] if self.text is None else torch.cat((self.text, ids), dim=1)
        if self.text.shape[1] > self.size:
            self.text, self.cache = self.text[:, -max(1, self.size // 2) :], Cache(self.size)
        if self.cached:
            logits: Tensor = self.model(self.text[:, self.cache.past :], self.cache)
            self.cache.past = self.text.shape[1]
        else:
            logits = self.model(self.text)
        return logits[:, -1]
