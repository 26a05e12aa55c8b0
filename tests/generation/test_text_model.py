import math

import pytest
import torch

from stages import load
from stages.core.errors import TextError
from stages.generation.sampling import Choice
from stages.generation.text_model import Writer, cut, until_stop
from stages.models.base import build
from stages.models.model_folder import Saved, save
from stages.tokenizers.char import CharTokenizer
from tests.conftest import model_params

TOKENIZER = CharTokenizer("abcd")


@pytest.fixture
def writer() -> Writer:
    torch.manual_seed(1)
    model = build(model_params(block_size=8), 4)
    for weight in model.parameters():
        weight.data.normal_()
    return Writer(Saved(model.eval(), TOKENIZER, {}))


def test_streaming_gives_the_same_text(writer):
    whole = writer.write("ab", 30, Choice(), [3])[0].text
    assert "ab" + "".join(writer.stream("ab", 30, Choice(), 3)) == whole


def test_stop_texts_end_a_sample_before_them_streamed_or_not(writer):
    whole = writer.write("ab", 60, Choice(), [3])[0].text
    stop = [whole[20:23], "dddddd"]
    stopped = writer.write("ab", 60, Choice(), [3], stop)[0].text
    assert stopped == "ab" + cut(whole[2:], stop)
    assert "ab" + "".join(writer.stream("ab", 60, Choice(), 3, stop)) == stopped
    assert len(stopped) <= 20


def test_log_probability_and_bits_belong_to_what_was_written(writer):
    (sample,) = writer.write("a", 5, Choice(), [3])
    ids = torch.from_numpy(TOKENIZER.encode(sample.text)).long()[None]
    logs = writer.model(ids[:, :-1]).log_softmax(-1).gather(-1, ids[:, 1:, None]).detach()
    assert sample.log_probability == pytest.approx(float(logs.sum()), rel=1e-4)
    assert sample.bits_per_character == pytest.approx(-float(logs.mean()) / math.log(2), rel=1e-4)


def test_score_is_the_mean_over_every_character_but_the_first(writer):
    text = "abcdabcdaabbccdd"
    ids = torch.from_numpy(TOKENIZER.encode(text)).long()
    seen, bits = writer.bits(text)
    assert seen.tolist() == ids.tolist()
    assert len(bits) == len(text) - 1
    assert writer.score(text) == pytest.approx(float(bits.mean()))
    first = writer.model(ids[None, :8]).log_softmax(-1)[0].gather(-1, ids[1:9, None])[:, 0] / -math.log(2)
    torch.testing.assert_close(bits[:8], first.detach())


@pytest.mark.parametrize("text", ["a", ""])
def test_a_text_too_short_to_score_is_refused(writer, text):
    with pytest.raises(TextError):
        writer.score(text)


def test_load_from_the_package(tmp_path, writer):
    save(tmp_path, writer.model, TOKENIZER, {})
    model = load(str(tmp_path))
    assert model.generate("ab", length=20, seed=5) == writer.generate("ab", length=20, seed=5)


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
def test_what_may_be_the_beginning_of_a_stop_text_waits(pieces, stop, expected):
    assert "".join(until_stop(pieces, stop)) == expected
