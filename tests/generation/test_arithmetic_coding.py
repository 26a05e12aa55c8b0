"""Code a text with the predictions of a model and decode it again: the loss is the length of a real code.

The coder is that of Witten, Neal and Cleary (1987, "Arithmetic Coding for Data Compression").
"""

import argparse
import inspect
import math
from collections.abc import Generator
from functools import cache

import pytest
import torch
from torch import Tensor

from stages.generation.decoding import make_decoder
from stages.generation.params import SamplingParams
from stages.generation.sampling import token_distribution
from stages.losses.adaptive import adaptive_losses
from stages.models.base import LanguageModel, build_model
from stages.tokenizers.char import CharTokenizer
from tests.conftest import model_params

LENGTH = 1000
CHUNK_SIZE = 500
BITS = 32
HALF, QUARTER = 1 << BITS - 1, 1 << BITS - 2
TOTAL = 1 << 24  # of the frequencies of all tokens, about


@pytest.fixture
def example() -> tuple[LanguageModel, Tensor, Tensor]:
    """Return a model, the text that it has counted, and the text that follows."""
    text = inspect.getsource(argparse)[: 50_000 + LENGTH]
    known, unknown = text[:-LENGTH], text[-LENGTH:]
    tokenizer = CharTokenizer(sorted(set(text)))
    params = model_params(
        prior="kneser_ney", cache_lm=True, context_experts=True, block_size=LENGTH, n_layer=2, sliding_window=16
    )
    torch.manual_seed(1)
    model = build_model(params, len(tokenizer))
    counted = torch.from_numpy(tokenizer.encode(known)).long()
    model.fit(counted, torch.from_numpy(tokenizer.token_classes()))
    with torch.no_grad():
        for weights in model.parameters():  # a new model predicts what its n-grams predict
            weights.add_(torch.randn_like(weights), alpha=0.02)
    return model.eval(), counted, torch.from_numpy(tokenizer.encode(unknown)).long()


@torch.inference_mode()
def test_a_thousand_characters_are_decoded_from_as_many_bits_as_their_loss(example):
    model, _, text = example
    code = encode(model, text)
    assert decode(model, code, int(text[0])) == text.tolist()
    loss = torch.nn.functional.cross_entropy(model(text[None, :-1])[0], text[1:], reduction="sum")
    assert len(code) == pytest.approx(float(loss) / math.log(2), rel=1e-3, abs=2)
    assert len(code) < 3.5 * LENGTH  # the text could be predicted


@pytest.mark.pipeline  # half a minute
@torch.inference_mode()
def test_a_model_that_counts_what_it_has_decoded_needs_as_many_bits_as_its_adaptive_loss(example, monkeypatch):
    model, counted, text = example
    monkeypatch.setattr("stages.losses.adaptive.adaptive_chunk_size", lambda *_: CHUNK_SIZE)
    counted = counted[-1000:]
    model.fit(counted)
    code = encode(model, text, counted)
    assert decode(model, code, int(text[0]), counted) == text.tolist()
    loss = float(sum(chunk.sum() for chunk in adaptive_losses(model, counted, text)))
    assert len(code) == pytest.approx(loss / math.log(2), rel=5e-3)  # the coder gives no token less than 1 / TOTAL
    assert code != encode(model, text)


def frequencies(model: LanguageModel, counted: Tensor | None = None) -> Generator[list[int], int, None]:
    """Receive a token, and yield the cumulative frequencies of the next one, from 0 to their sum.

    With `counted`, the training text, the predictions are those of the adaptive loss.
    """
    decoder, tokens = make_decoder(model, 1), [(yield [])]
    while True:
        logits = (
            decoder.step(torch.tensor([tokens[-1:]]))
            if counted is None
            else adaptive_logits(model, counted, tuple(tokens))
        )
        probs = token_distribution(logits, SamplingParams())[0]
        assert float(logits.double().exp().sum()) == pytest.approx(1, abs=1e-6)  # they are log-probabilities
        counts = (probs * TOTAL).long() + 1
        tokens.append((yield [0, *counts.cumsum(0).tolist()]))


@cache  # the encoder and the decoder ask for the same
def adaptive_logits(model: LanguageModel, counted: Tensor, tokens: tuple[int, ...]) -> Tensor:
    """Return the logits of the token after those that are known, (1, V)."""
    start, size = len(counted) + 1, len(counted) + len(tokens)
    known = torch.cat((counted, torch.tensor([*tokens, 0])))
    chunks = model.adaptive_logits(known, start, CHUNK_SIZE)
    for _ in range((size - start) // CHUNK_SIZE + 1):
        logits = next(chunks)
    return logits[:, -1]


def encode(model: LanguageModel, text: Tensor, counted: Tensor | None = None) -> list[int]:
    """Return the bits of all tokens but the first."""
    source = frequencies(model, counted)
    next(source)
    low, high, pending = 0, (1 << BITS) - 1, 0
    code: list[int] = []
    for token, following in zip(text.tolist(), text[1:].tolist(), strict=False):
        bounds = source.send(token)
        low, high = narrow(low, high, bounds, following)
        while (bit := common_bit(low, high)) is not None or is_straddling(low, high):
            if bit is None:
                pending += 1
            else:
                code += [bit, *[1 - bit] * pending]
                pending = 0
            low, high = widen(low, high, bit)
    bit = int(low >= QUARTER)
    return [*code, bit, *[1 - bit] * (pending + 1)]


def decode(model: LanguageModel, code: list[int], first: int, counted: Tensor | None = None) -> list[int]:
    """Return LENGTH tokens, the first of which is given."""
    source = frequencies(model, counted)
    next(source)
    bits = iter(code)
    low, high, value = 0, (1 << BITS) - 1, 0
    for _ in range(BITS):
        value = 2 * value + next(bits, 0)
    tokens = [first]
    while len(tokens) < LENGTH:
        bounds = source.send(tokens[-1])
        position = ((value - low + 1) * bounds[-1] - 1) // (high - low + 1)
        tokens.append(max(token for token, bound in enumerate(bounds) if bound <= position))
        low, high = narrow(low, high, bounds, tokens[-1])
        while (bit := common_bit(low, high)) is not None or is_straddling(low, high):
            low, high = widen(low, high, bit)
            value = 2 * (value - offset(bit)) + next(bits, 0)
    return tokens


def narrow(low: int, high: int, bounds: list[int], token: int) -> tuple[int, int]:
    """Return the part of an interval that belongs to a token."""
    size = high - low + 1
    return low + size * bounds[token] // bounds[-1], low + size * bounds[token + 1] // bounds[-1] - 1


def common_bit(low: int, high: int) -> int | None:
    """Return the first bit of every number of an interval, or None if they differ."""
    return 0 if high < HALF else 1 if low >= HALF else None


def is_straddling(low: int, high: int) -> bool:
    return low >= QUARTER and high < HALF + QUARTER


def offset(bit: int | None) -> int:
    """Return what is subtracted from an interval before it is doubled."""
    return QUARTER if bit is None else bit * HALF


def widen(low: int, high: int, bit: int | None) -> tuple[int, int]:
    """Return an interval of twice the size."""
    return 2 * (low - offset(bit)), 2 * (high - offset(bit)) + 1
