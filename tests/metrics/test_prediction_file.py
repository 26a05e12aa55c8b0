from dataclasses import fields

import numpy as np
import pytest

from stages.core.errors import TextError
from stages.metrics.prediction_file import read_predictions, write_predictions
from tests.report.test_highlighting import PREDICTIONS


def test_predictions_come_back(tmp_path):
    path = tmp_path / "predictions.safetensors"
    write_predictions(path, PREDICTIONS)
    for field in fields(PREDICTIONS):
        np.testing.assert_array_equal(getattr(read_predictions(path), field.name), getattr(PREDICTIONS, field.name))


def test_equal_predictions_make_equal_files(tmp_path):
    for name in "ab":
        write_predictions(tmp_path / name, PREDICTIONS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_or_damaged_file_is_named(tmp_path):
    path = tmp_path / "predictions.safetensors"
    with pytest.raises(TextError, match="does not exist; `dvc repro evaluate`"):
        read_predictions(path)
    write_predictions(path, PREDICTIONS)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(TextError, match="is damaged"):
        read_predictions(path)
