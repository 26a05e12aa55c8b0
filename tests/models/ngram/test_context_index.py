from collections import Counter

import pytest
import torch
from torch import Tensor

from stages.models.ngram import context_index
from stages.models.ngram.context_index import BACKOFF_STRENGTH, MAX_OCCURRENCES, ContextIndex
from stages.models.ngram.word_line_contexts import TorchWordLineContexts, context_keys
from stages.tokenizers.char import CharTokenizer

TEXT = "one two,\nthree four\nOne TWO three\n1,2,3\n1,2,4\n1,3,4\nfour two one\n" * 6
TOKENIZER = CharTokenizer(sorted(set(TEXT)))
CLASSES = torch.from_numpy(TOKENIZER.token_classes())
V = len(TOKENIZER)
FOLDS = 5


def encode(text: str) -> Tensor:
    return torch.from_numpy(TOKENIZER.encode(text)).long()


def fitted_index(text: Tensor) -> ContextIndex:
    index = ContextIndex(V)
    index.fit(text, CLASSES, FOLDS)
    return index


def expected(occurrences: list[list[int]], probs: Tensor) -> Tensor:
    """Return the distribution, (V,), from the followers of a context and of a longer one, the latest first."""
    for followers in occurrences:
        counts = Counter(followers[:MAX_OCCURRENCES])
        counted = torch.tensor([float(counts[token]) for token in range(V)])
        probs = (counted + BACKOFF_STRENGTH * probs) / (counted.sum() + BACKOFF_STRENGTH)
    return probs


def uniform(*shape: int) -> Tensor:
    return torch.full((*shape, V), 1 / V)


@pytest.mark.parametrize("kind", [0, 1])
def test_a_window_comes_before_the_training_text(kind):
    text, window = encode(TEXT), encode("four 1,2\none two 1,2,\nOne three\nthree two")
    probs = fitted_index(text).log_probs(window[None], uniform(1, len(window))).exp()[0, :, kind]
    text_keys = context_keys(text[None, :-1], CLASSES)[kind, :, 0]
    window_keys = context_keys(window[None], CLASSES)[kind, :, 0]
    for position in range(len(window)):
        occurrences = []
        for of_text, of_window in zip(text_keys, window_keys, strict=True):
            key = of_window[position]
            here = [int(window[i + 1]) for i in reversed(range(position)) if of_window[i] == key]
            there = [int(text[i + 1]) for i in reversed(range(len(text) - 1)) if of_text[i] == key]
            occurrences.append(here + there)
        torch.testing.assert_close(probs[position], expected(occurrences, uniform()), msg=str(position))


@pytest.mark.parametrize("kind", [0, 1])
def test_in_training_a_position_sees_the_other_folds_and_its_window(kind):
    text = encode(TEXT)
    index, positions = fitted_index(text), torch.arange(150, 230)
    probs = index.log_probs(text[positions][None], uniform(1, 80), positions[None]).exp()[0, :, kind]
    keys = context_keys(text[None], CLASSES)[kind, :, 0]
    window_keys = context_keys(text[positions][None], CLASSES)[kind, :, 0]
    fold = [min(i * FOLDS // len(text), FOLDS - 1) for i in range(len(text) + 1)]
    for position in range(150, 230):
        occurrences = []
        for of_text, of_window in zip(keys, window_keys, strict=True):
            window_key = of_window[position - 150]
            here = [int(text[i + 1]) for i in reversed(range(150, position)) if of_window[i - 150] == window_key]
            before = [i for i in reversed(range(len(text) - 1)) if fold[i + 1] < fold[position + 1]]
            after = [i for i in reversed(range(len(text) - 1)) if fold[i + 1] > fold[position + 1]]
            occurrences.append(here + [int(text[i + 1]) for i in before + after if of_text[i] == of_text[position]])
        torch.testing.assert_close(probs[position - 150], expected(occurrences, uniform()), msg=str(position))


def test_a_text_that_grows_has_the_same_predictions_and_they_sum_to_one():
    window = torch.stack((encode("four 1,2\none two 1,2,\nOne three"), encode("1,2,3\n1,2,4\nfour two one, three")))
    index, probs = fitted_index(encode(TEXT)), torch.rand(2, window.shape[1], V).softmax(-1)
    predicted = index.log_probs(window, probs)
    torch.testing.assert_close(predicted.exp().sum(-1), torch.ones(2, window.shape[1], 2))
    tracked = TorchWordLineContexts(window[:, :2], CLASSES, size=100)
    for position in range(2, window.shape[1]):
        tracked.step(window[:, position])
        torch.testing.assert_close(index.last_log_probs(tracked, probs[:, position]), predicted[:, position])


def test_an_index_survives_saving_and_loading():
    window, saved = encode("two one 1,2")[None], fitted_index(encode(TEXT))
    loaded = ContextIndex(V)
    loaded.load_state_dict(saved.state_dict())
    probs = uniform(1, window.shape[1])
    assert torch.equal(loaded.log_probs(window, probs), saved.log_probs(window, probs))


@pytest.mark.parametrize("piece", [1, 7, 100])
def test_a_long_text_is_indexed_in_pieces(monkeypatch, piece):
    text = encode(TEXT)
    whole = fitted_index(text)
    monkeypatch.setattr(context_index, "CHUNK_SIZE", piece)
    monkeypatch.setattr(context_index, "CHUNK_OVERLAP", 40)  # more than two lines and three words of TEXT
    in_pieces = fitted_index(text)
    contexts = [index.keys[index.rows.long()][:, 40:] for index in (whole, in_pieces)]
    assert torch.equal(*contexts)


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_tiny_training_text_is_no_error(length):
    window = encode("one two one")[None]
    predicted = fitted_index(encode(TEXT)[:length]).log_probs(window, uniform(1, window.shape[1]))
    torch.testing.assert_close(predicted.exp().sum(-1), torch.ones(1, window.shape[1], 2))


def test_only_the_latest_occurrences_count():
    text, window = encode("two one " * 40 + "two 1 " * (MAX_OCCURRENCES + 1)), encode("two ")[None]
    predicted = fitted_index(text).log_probs(window, uniform(1, 4)).exp()[0, -1, 0]
    # Of the longer context, the beginning of the text is the only occurrence.
    first, latest = encode("o1").tolist()
    of_words = expected([[latest] * MAX_OCCURRENCES, [first]], uniform())
    torch.testing.assert_close(predicted, of_words)
