"""The adaptive (online) loss: after each chunk of a text, n-gram counts and the output layer are updated."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.losses.window_losses import MAX_LOGITS
from stages.models.base import LanguageModel
from stages.models.ngram.ngram_memory import adaptive_bytes_per_token, countable_tokens
from stages.tokenizers.base import TokenIds
from stages.tokenizers.token_files import TokenSource, subsample_training_text

MIN_CHUNK, MAX_CHUNK = 16, 512  # tokens after which the model adapts
CHUNKS = 256  # that a text is divided into, if these sizes allow it


@torch.no_grad()
def adaptive_losses(model: LanguageModel, train: Tensor, tokens: Tensor) -> Iterator[Tensor]:
    """Yield the losses of all tokens of a text but the first, under a model that adapts after each chunk of it.

    Args:
        model: the model, in evaluation mode; it has an n-gram model.
        train: the training text, (N,), which is counted first.
        tokens: the text that follows it, (M,).

    Yields:
        the losses of each chunk, (T,).
    """
    text = torch.cat((train.long(), tokens.long()))
    begin = len(train) + 1
    for logits in model.adaptive_logits(text, begin, adaptive_chunk_size(len(tokens), model.vocab_size)):
        targets = text[begin : begin + logits.shape[1]]
        yield F.cross_entropy(logits[0], targets, reduction="none")
        begin += len(targets)


def countable_training_text(
    model: LanguageModel, train: TokenIds, sources: Sequence[TokenSource], num_predicted: int
) -> TokenIds:
    """Return the training text for `adaptive_losses`, (N,), or pieces from all over it if it is too long to count.

    All of it is counted, also if the model was trained on a part of it.

    Args:
        model: the model.
        train: the training text, (M,).
        sources: its sources.
        num_predicted: length of the text that follows it.

    Raises:
        WorkError: if there is not enough free memory for that text.
    """
    per_token = adaptive_bytes_per_token(model.params.ngram_order, model.vocab_size)
    limit = countable_tokens("the adaptive loss", len(train), model.vocab_size, per_token, num_predicted)
    return subsample_training_text(train, sources, limit)[0]


def adaptive_chunk_size(length: int, vocab_size: int) -> int:
    """Return after how many tokens the model adapts, in a text of `length` tokens."""
    return min(max(MIN_CHUNK, length // CHUNKS), MAX_CHUNK, max(1, MAX_LOGITS // vocab_size))
