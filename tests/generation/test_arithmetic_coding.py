"""Code a text with the predictions of a model and decode it again: the loss is the length of a real code.

The coder is that of Witten, Neal and Cleary (1987, "Arithmetic Coding for Data Compression").
"""

import argparse
import inspect
import math
from collections.abc import Generator

import pytest
import torch
from torch import Tensor

from stages.generation.decoding import make_decoder
from stages.generation.params import SamplingParams
from stages.generation.sampling import token_distribution
from stages.models.base import LanguageModel, build_model
from stages.tokenizers.char import CharTokenizer
from tests.conftest import model_params

LENGTH = 1000
BITS = 32
HALF, QUARTER = 1 << BITS - 1, 1 << BITS - 2
TOTAL = 1 << 24  # of the frequencies of all tokens, about


@pytest.fixture(scope="module")
def model_and_text() -> tuple[LanguageModel, Tensor]:
    text = inspect.getsource(argparse)[: 50_000 + LENGTH]
    known, unknown = text[:-LENGTH], text[-LENGTH:]
    tokenizer = CharTokenizer(sorted(set(text)))
    params = model_params(prior="kneser_ney", cache_lm=True, block_size=LENGTH, n_layer=2)
    torch.manual_seed(1)
    model = build_model(params, len(tokenizer))
    model.fit(torch.from_numpy(tokenizer.encode(known)).long(), torch.from_numpy(tokenizer.token_classes()))
    with torch.no_grad():
        for weights in model.parameters():  # a new model predicts what its n-grams predict
            weights.add_(torch.randn_like(weights), alpha=0.02)
    return model.eval(), torch.from_numpy(tokenizer.encode(unknown)).long()


@torch.inference_mode()
def test_a_thousand_characters_are_decoded_from_as_many_bits_as_their_loss(model_and_text):
    model, text = model_and_text
    code = encode(model, text)
    assert decode(model, code, int(text[0])) == text.tolist()
    loss = torch.nn.functional.cross_entropy(model(text[None, :-1])[0], text[1:], reduction="sum")
    assert len(code) == pytest.approx(float(loss) / math.log(2), rel=1e-3, abs=2)
    assert len(code) < 3.5 * LENGTH  # the text could be predicted


def frequencies(model: LanguageModel) -> Generator[list[int], int, None]:
    """Receive a token, and yield the cumulative frequencies of the next one, from 0 to their sum."""
    decoder, token = make_decoder(model, 1), (yield [])
    while True:
        logits = decoder.step(torch.tensor([[token]]))
        probs = token_distribution(logits, SamplingParams())[0]
        assert float(logits.double().exp().sum()) == pytest.approx(1, abs=1e-6)  # they are log-probabilities
        counts = (probs * TOTAL).long() + 1
        token = yield [0, *counts.cumsum(0).tolist()]


def encode(model: LanguageModel, text: Tensor) -> list[int]:
    """Return the bits of all tokens but the first."""
    source = frequencies(model)
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


def decode(model: LanguageModel, code: list[int], first: int) -> list[int]:
    """Return LENGTH tokens, the first of which is given."""
    source = frequencies(model)
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
