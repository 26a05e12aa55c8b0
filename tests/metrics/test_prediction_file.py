from dataclasses import fields, replace

import numpy as np
import pytest

from stages.core.errors import TextError
from stages.metrics.prediction_file import read_predictions, write_predictions
from stages.tokenizers.char import CharTokenizer
from tests.report.test_highlighting import PREDICTIONS, TOKENIZER


def test_predictions_come_back(tmp_path):
    path = tmp_path / "predictions.safetensors"
    write_predictions(path, PREDICTIONS, TOKENIZER)
    for field in fields(PREDICTIONS):
        np.testing.assert_array_equal(
            getattr(read_predictions(path, TOKENIZER), field.name), getattr(PREDICTIONS, field.name)
        )


def test_equal_predictions_make_equal_files(tmp_path):
    for name in "ab":
        write_predictions(tmp_path / name, PREDICTIONS, TOKENIZER)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_or_damaged_file_is_named(tmp_path):
    path = tmp_path / "predictions.safetensors"
    with pytest.raises(TextError, match="does not exist; run `dvc repro evaluate`"):
        read_predictions(path, TOKENIZER)
    write_predictions(path, PREDICTIONS, TOKENIZER)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TextError, match="is damaged"):
        read_predictions(path, TOKENIZER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_ids": np.array([2, 3, 0, 2, 3, 4])}, "tokens outside the vocabulary"),
        ({"top_ids": np.array([[2, -1]] * 6)}, "tokens outside the vocabulary"),
        ({"top_ids": np.array([[2.0, 1.0]] * 6)}, "tokens outside the vocabulary"),
        ({"log_probs": np.zeros(5)}, "do not fit together"),
        ({"top_probs": np.zeros((6, 1))}, "do not fit together"),
        ({"attention": np.zeros(())}, "do not fit together"),
        ({"attention": np.zeros((1, 2, 3, 3))}, "do not fit together"),
        ({"stride": 0}, "do not fit together"),
        ({"log_probs": np.full(6, np.nan)}, "impossible log-probabilities"),
        ({"top_probs": np.full((6, 2), -1.0)}, "impossible probabilities"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, changes, message):
    path = tmp_path / "predictions.safetensors"
    write_predictions(path, replace(PREDICTIONS, **changes), TOKENIZER)
    with pytest.raises(TextError, match=message):
        read_predictions(path, TOKENIZER)


def test_predictions_of_another_tokenizer_are_refused(tmp_path):
    path = tmp_path / "predictions.safetensors"
    write_predictions(path, PREDICTIONS, CharTokenizer("abcd"))
    with pytest.raises(TextError, match="another tokenizer"):
        read_predictions(path, TOKENIZER)
