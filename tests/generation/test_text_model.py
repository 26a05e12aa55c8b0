import math

import numpy as np
import pytest
import torch

from stages import load
from stages.core.errors import ParameterError, TextError
from stages.core.records import TrainingRecord
from stages.generation.params import GenerationParams
from stages.generation.text_model import TextModel, cut_at_stop, stream_until_stop
from stages.models.base import build_model
from stages.models.model_folder import TrainedModel, save_model
from stages.tokenizers.char import CharTokenizer
from tests.conftest import model_params

TOKENIZER = CharTokenizer("abcd")


@pytest.fixture
def text_model() -> TextModel:
    torch.manual_seed(1)
    model = build_model(model_params(block_size=8), 4)
    for weight in model.parameters():
        weight.data.normal_()
    return TextModel(TrainedModel(model.eval(), TOKENIZER, TrainingRecord()))


def test_streaming_gives_the_same_text(text_model):
    whole = text_model.generate_samples("ab", GenerationParams(max_new_tokens=30), [3])[0].text
    assert "ab" + "".join(text_model.stream("ab", GenerationParams(max_new_tokens=30), 3)) == whole


def test_stop_texts_end_a_sample_before_them_streamed_or_not(text_model):
    whole = text_model.generate_samples("ab", GenerationParams(max_new_tokens=60), [3])[0].text
    stop = [whole[20:23], "dddddd"]
    stopped = text_model.generate_samples("ab", GenerationParams(max_new_tokens=60, stop=stop), [3])[0].text
    assert stopped == "ab" + cut_at_stop(whole[2:], stop)
    assert "ab" + "".join(text_model.stream("ab", GenerationParams(max_new_tokens=60, stop=stop), 3)) == stopped
    assert len(stopped) <= 20


def test_log_probability_and_bits_belong_to_what_was_written(text_model):
    (sample,) = text_model.generate_samples("a", GenerationParams(max_new_tokens=5), [3])
    ids = torch.from_numpy(TOKENIZER.encode(sample.text)).long()[None]
    logs = text_model.model(ids[:, :-1]).log_softmax(-1).gather(-1, ids[:, 1:, None]).detach()
    assert sample.log_probability == pytest.approx(float(logs.sum()), rel=1e-4)
    assert sample.bits_per_character == pytest.approx(-float(logs.mean()) / math.log(2), rel=1e-4)


def test_the_log_probability_of_a_stopped_sample_is_that_of_the_text_that_is_shown(text_model):
    whole = text_model.generate_samples("ab", GenerationParams(max_new_tokens=60), [3])[0].text
    (stopped,) = text_model.generate_samples("ab", GenerationParams(max_new_tokens=60, stop=[whole[20:23]]), [3])
    (cut,) = text_model.generate_samples("ab", GenerationParams(max_new_tokens=len(stopped.text) - 2), [3])
    assert len(stopped.text) > 2
    assert stopped == cut


def test_score_is_the_mean_over_every_character_but_the_first(text_model):
    text = "abcdabcdaabbccdd"
    ids = torch.from_numpy(TOKENIZER.encode(text)).long()
    ids_back, bits = text_model.token_bits(text)
    assert ids_back.tolist() == ids.tolist()
    assert len(bits) == len(text) - 1
    assert text_model.score(text) == pytest.approx(float(bits.mean()))
    first = text_model.model(ids[None, :8]).log_softmax(-1)[0].gather(-1, ids[1:9, None])[:, 0] / -math.log(2)
    torch.testing.assert_close(bits[:8], first.detach())


@pytest.mark.parametrize("text", ["a", ""])
def test_a_text_too_short_to_score_is_refused(text_model, text):
    with pytest.raises(TextError):
        text_model.score(text)


def test_load_from_the_package(tmp_path, text_model):
    save_model(tmp_path, text_model.model, TOKENIZER, TrainingRecord())
    model = load(str(tmp_path))
    assert model.generate("ab", max_new_tokens=20, seed=5) == text_model.generate("ab", max_new_tokens=20, seed=5)


@pytest.mark.parametrize(
    ("pieces", "stop", "expected"),
    [
        (["a", "b", "c"], [], "abc"),
        (["a", "b", "c"], ["b"], "a"),
        (["x", "a", "b", "a", "b", "c", "y"], ["abc"], "xab"),
        (["a", "b"], ["abc"], "ab"),
        (["ab", "cd"], ["bc"], "a"),
    ],
)
def test_a_possible_beginning_of_a_stop_text_is_held_back(pieces, stop, expected):
    assert "".join(stream_until_stop(pieces, stop)) == expected


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"top_p": 0.0}, r"generate\.top_p is 0.0 \(float\): it must be greater than 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"unknown": "skipp"}, "unknown is 'skipp': it must be one of error, skip, nearest"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens is 2.5"),
        ({"stop": [""]}, r"generate\.stop\.0 is ''"),
        ({"stop": ("a", 5)}, r"generate\.stop\.1 is 5"),
    ],
)
def test_the_library_names_values_that_are_not_allowed(text_model, values, message):
    with pytest.raises(ParameterError, match=message):
        text_model.generate("ab", **values)
    with pytest.raises(ParameterError, match="unknown is 'all'"):
        text_model.score("abab", unknown="all")


@pytest.mark.parametrize("stop", [None, 3])
def test_stop_texts_of_another_type_are_named(text_model, stop):
    with pytest.raises(ParameterError, match="stop"):
        text_model.generate("ab", stop=stop)


@pytest.mark.parametrize(
    ("training_tokens", "message"),
    [
        ([0, 1], "must be a NumPy array of token ids"),
        (np.zeros(9), "must be a NumPy array of token ids"),
        (np.zeros((3, 3), np.uint8), "must be a NumPy array of token ids"),
        (np.array([0, 4]), "has values from 0 to 4, but the vocabulary has 4 tokens"),
        (np.array([-1, 2]), "has values from -1 to 2"),
    ],
)
def test_training_tokens_of_another_kind_are_named(training_tokens, message):
    model = build_model(model_params(kind="kneser_ney"), 4)
    model.fit(torch.arange(4).repeat(20))
    with pytest.raises(ParameterError, match=message):
        TextModel(TrainedModel(model, TOKENIZER, TrainingRecord())).score("abc", training_tokens=training_tokens)


def test_a_single_stop_text_need_not_be_a_list(text_model):
    whole = text_model.generate("ab", 60, temperature=1.0, seed=3)
    stop = whole[20:23]
    assert text_model.generate("ab", 60, temperature=1.0, seed=3, stop=stop) == "ab" + cut_at_stop(whole[2:], [stop])
