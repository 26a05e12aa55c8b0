from typing import Any

import pytest
import torch
from torch import Tensor

from stages.generation.decoding import BlockDecoder, WindowDecoder, make_decoder
from stages.generation.params import SamplingParams
from stages.generation.sampling import sample_token
from stages.generation.streaming import draw_uniforms, generate_tokens, stream_tokens
from stages.models.base import LanguageModel, build_model
from stages.models.gpt_numpy_decoder import NumpyGPTDecoder
from stages.models.gpt_torch_decoder import TorchGPTDecoder
from stages.models.reference_generator import generate_reference
from stages.tokenizers.char import CharTokenizer
from tests.conftest import model_params, randomize
from tests.import_graph import KINDS

VOCAB_SIZE, BLOCK = 7, 12
MODELS: list[dict[str, Any]] = [
    *({"kind": kind} for kind in KINDS),
    {"sliding_window": 4, "n_layer": 2},
    {"prior": "kneser_ney"},
    {"prior": "kneser_ney", "ngram_order": 2},
    {"prior": "kneser_ney", "cache_lm": True, "context_experts": False},
    {"prior": "kneser_ney", "cache_lm": True, "sliding_window": 3, "n_layer": 2},
    *({"prior": "kneser_ney", "cache_lm": True, "ngram_order": order} for order in (2, 10, 16)),
]


def random_model(**changes: Any) -> LanguageModel:
    torch.manual_seed(1)
    model = build_model(model_params(block_size=BLOCK, **changes), VOCAB_SIZE)
    model.fit(torch.randint(VOCAB_SIZE, (300,)))
    randomize(model, std=0.5)
    return model.eval()


def naive_logits(model: LanguageModel, ids: Tensor, block_start: int) -> Tensor:
    """Return the logits of the next token without keeping anything of the past."""
    if model.supports_kv_cache:
        return model(ids[:, block_start:])[:, -1]
    return model(ids[:, -model.context_length :])[:, -1]


def generate_naively(model: LanguageModel, prompt: Tensor, count: int, seeds: list[int]) -> Tensor:
    ids, block_start = prompt, 0
    # The positions of `gpt` continue beyond the block: there, its forward pass with a KV cache is the reference.
    kv_cache, cached = model.new_kv_cache(), 0
    for uniforms in draw_uniforms(seeds, count).T:
        if model.params.kind == "gpt" and ids.shape[1] > BLOCK:
            for token in ids[:, cached:].split(1, dim=1):
                logits = model(token, kv_cache=kv_cache)[:, -1]
            cached = ids.shape[1]
        else:
            if ids.shape[1] - block_start > BLOCK:
                block_start = ids.shape[1] - BLOCK // 2
            logits = naive_logits(model, ids, block_start)
        ids = torch.cat((ids, sample_token(logits, uniforms, SamplingParams())), dim=1)
    return ids[:, prompt.shape[1] :]


@pytest.mark.parametrize("texts", [1, 2])
@pytest.mark.parametrize("changes", MODELS, ids=str)
def test_processing_each_token_once_generates_the_same_text(changes, texts):
    model, prompt = random_model(**changes), torch.tensor([[1, 2, 3], [3, 3, 0]])[:texts]
    ids = generate_tokens(model, prompt, 28, SamplingParams(), [5, 6][:texts])  # more than twice the block of 12
    assert torch.equal(ids, generate_naively(model, prompt, 28, [5, 6][:texts]))


@pytest.mark.parametrize("changes", MODELS, ids=str)
def test_within_a_block_the_most_likely_text_is_that_of_the_reference_generator(changes):
    model, prompt = random_model(**changes), torch.tensor([[1, 2, 3], [3, 3, 0]])
    ids = generate_tokens(model, prompt, BLOCK - 3, SamplingParams(temperature=0.0), [5, 6])
    assert torch.equal(ids, generate_reference(model, prompt, BLOCK - 3, temperature=1e-5, seed=1))


@pytest.mark.parametrize(
    ("kind", "texts", "decoder"),
    [
        ("gpt", 1, NumpyGPTDecoder),
        ("gpt", 2, TorchGPTDecoder),
        ("head", 1, BlockDecoder),
        ("average", 2, WindowDecoder),
    ],
)
def test_each_kind_of_model_has_its_decoder(kind, texts, decoder):
    assert isinstance(make_decoder(random_model(kind=kind), texts), decoder)


def test_a_sample_does_not_depend_on_the_others():
    model, prompt = random_model(prior="kneser_ney", cache_lm=True), torch.tensor([[1, 2, 3]])
    together = generate_tokens(model, prompt.expand(3, -1), 30, SamplingParams(temperature=3.0), [7, 8, 9])
    alone = generate_tokens(model, prompt, 30, SamplingParams(temperature=3.0), [8])
    assert torch.equal(together[1:2], alone)
    assert len({tuple(row) for row in together.tolist()}) == 3


def test_of_a_prompt_longer_than_the_block_the_end_is_used():
    model, prompt = random_model(), torch.arange(40)[None] % VOCAB_SIZE
    most_likely = SamplingParams(temperature=0.0)
    assert torch.equal(
        generate_tokens(model, prompt, 5, most_likely, [1]),
        generate_tokens(model, prompt[:, -12:], 5, most_likely, [1]),
    )


def test_log_probabilities_are_those_of_the_model_before_the_filters():
    model, prompt = random_model(), torch.tensor([[1, 2, 3]])
    steps = list(stream_tokens(model, prompt, 4, SamplingParams(temperature=0.3, top_k=2), [1]))
    ids = torch.cat([prompt, *(new for new, _ in steps)], dim=1)
    expected = model(ids[:, :-1]).log_softmax(-1).gather(-1, ids[:, 1:, None])[0, 2:, 0]
    torch.testing.assert_close(torch.cat([log_probs for _, log_probs in steps], dim=1)[0], expected)


def test_the_temperature_changes_what_is_generated():
    model, prompt = random_model(), torch.tensor([[1, 2, 3]])
    cold, warm = (generate_tokens(model, prompt, 30, SamplingParams(temperature=t), [1]) for t in (0.2, 2.0))
    assert not torch.equal(cold, warm)


@pytest.mark.parametrize("changes", [changes for changes in MODELS if changes.get("kind", "gpt") == "gpt"], ids=str)
@torch.inference_mode()
def test_the_fast_decoder_gives_the_logits_of_the_model(changes, monkeypatch):
    monkeypatch.setattr("stages.models.gpt_torch_decoder.TABLE_LENGTH", 8)
    model, text = random_model(**changes), torch.randint(VOCAB_SIZE, (2, 3 * BLOCK))
    compare_decoder_with_model(model, text)


@pytest.mark.parametrize("block_size", [1, 4, 24])
@pytest.mark.parametrize("order", [2, 10, 16])
@torch.inference_mode()
def test_the_fast_decoder_finds_long_repetitions_within_the_block(order, block_size):
    text = torch.randint(VOCAB_SIZE, (2, 5), generator=torch.Generator().manual_seed(4)).repeat(1, 12)
    text[:, ::13] = 0
    model = build_model(
        model_params(prior="kneser_ney", cache_lm=True, ngram_order=order, block_size=block_size), VOCAB_SIZE
    )
    model.fit(text[0])
    compare_decoder_with_model(randomize(model, std=0.5).eval(), text)


@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("known", [1, 2, 4])
@torch.inference_mode()
def test_the_fast_decoders_find_no_context_that_the_training_text_lacks(known, order):
    generator = torch.Generator().manual_seed(5)
    model = build_model(
        model_params(prior="kneser_ney", cache_lm=True, ngram_order=order, block_size=BLOCK), VOCAB_SIZE
    )
    model.fit(torch.randint(known, (300,), generator=generator))
    texts = torch.randint(VOCAB_SIZE, (2, 60), generator=generator)
    compare_decoder_with_model(randomize(model, std=0.5).eval(), texts)


def model_of_words(block_size: int) -> tuple[LanguageModel, Tensor]:
    """Return a model that knows words and lines, and two texts."""
    text = "The cat,\nthe hat\nA cat, a hat\n1,2\n1,3\nthe CAT\n" * 2
    tokenizer = CharTokenizer(sorted(set(text)))
    ids = torch.from_numpy(tokenizer.encode(text)).long()
    model = build_model(model_params(prior="kneser_ney", cache_lm=True, block_size=block_size), len(tokenizer))
    model.fit(ids.roll(20), torch.from_numpy(tokenizer.token_classes()))
    return randomize(model, std=0.5).eval(), torch.stack((ids, ids.flip(0)))


@torch.inference_mode()
def test_the_fast_decoders_know_words_and_lines():
    compare_decoder_with_model(*model_of_words(block_size=96))


@pytest.mark.parametrize("prompt_length", [1, 7, 30, 60])
@pytest.mark.parametrize("block_size", [1, 2, 20, 45])
@torch.inference_mode()
def test_the_fast_decoders_forget_the_same_words_and_lines(block_size, prompt_length):
    model, texts = model_of_words(block_size)
    decoder, decoder_of_one = make_decoder(model, 2), make_decoder(model, 1)
    for ids in (texts[:, :prompt_length], *texts[:, prompt_length:].split(1, dim=1)):
        torch.testing.assert_close(decoder.step(ids)[:1], decoder_of_one.step(ids[:1]), atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_the_decoder_of_one_text_refuses_two():
    with pytest.raises(ValueError, match="made for one text, not for 2"):
        make_decoder(random_model(), 1).step(torch.tensor([[1], [2]]))


@pytest.mark.parametrize("vocab_size", [300, 40_000])
@torch.inference_mode()
def test_the_fast_decoders_know_large_vocabularies(vocab_size):
    generator = torch.Generator().manual_seed(6)
    params = model_params(prior="kneser_ney", cache_lm=True, ngram_order=3, block_size=BLOCK)
    model = build_model(params, vocab_size)
    text = torch.randint(vocab_size - 20, vocab_size, (2, 40), generator=generator)
    model.fit(text.flatten())
    compare_decoder_with_model(randomize(model, std=0.5).eval(), text)


def compare_decoder_with_model(model: LanguageModel, texts: Tensor) -> None:
    """Compare the logits of decoders of all texts, and of the first one, with those of the model."""
    decoder, decoder_of_one, kv_cache = make_decoder(model, len(texts)), make_decoder(model, 1), model.new_kv_cache()
    for index, token in enumerate(texts.split(1, dim=1)):
        expected = model(token, kv_cache=kv_cache)[:, -1]
        for logits in (decoder.step(token), decoder_of_one.step(token[:1])):
            torch.testing.assert_close(logits, expected[: len(logits)], atol=1e-4, rtol=1e-4, msg=str(index))
