"""params.yaml as it stands, and every way in which it can be wrong."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.core.device import ComputeParams
from stages.core.errors import ParameterError
from stages.core.params import Section, read_section
from stages.download.params import DownloadParams
from stages.evaluate.params import EvaluateParams
from stages.models.params import ModelParams
from stages.report.params import ReportParams
from stages.sample.params import SampleParams
from stages.tokenize.params import TokenizeParams
from stages.tools.lecture.params import LectureParams
from stages.train.params import TrainParams

ROOT = Path(__file__).parent.parent.parent
SECTIONS: dict[str, type[Section]] = {
    "compute": ComputeParams,
    "download": DownloadParams,
    "tokenize": TokenizeParams,
    "model": ModelParams,
    "train": TrainParams,
    "evaluate": EvaluateParams,
    "report": ReportParams,
    "sample": SampleParams,
    "lecture": LectureParams,
}


@pytest.mark.parametrize("name", SECTIONS)
def test_the_file_s_sections_are_right_and_complete(name):
    read_section(ROOT / "params.yaml", name, SECTIONS[name])


def test_the_file_has_no_other_section():
    assert set(YAML().load(ROOT / "params.yaml")) == set(SECTIONS)


def test_every_key_has_a_comment_and_is_used_by_the_code():
    code = (
        "\n".join(path.read_text() for path in (ROOT / "stages").rglob("*.py") if path.parent.name != "params")
        + (ROOT / "stages/download/params.py").read_text()
    )
    section = ""
    for line in (ROOT / "params.yaml").read_text().splitlines():
        key = line.split(":")[0].strip()
        if line and not line.startswith((" ", "#")):
            section = key
        elif line.startswith("  "):
            assert "#" in line, f"{section}.{key} has no comment"
            assert f".{key}" in code, f"{section}.{key} is read by nothing"


WRONG = [
    ("train", "max_steps", "ten", "train.max_steps is 'ten' (str)"),
    ("train", "max_steps", True, "train.max_steps is True (bool)"),
    ("train", "max_steps", 0, "greater than or equal to 1"),
    ("train", "max_steps", 1.5, "train.max_steps is 1.5 (float)"),
    ("train", "lr", "1e-3", "train.lr is '1e-3' (str)"),
    ("train", "lr", float("nan"), "train.lr is nan"),
    ("train", "lr", float("inf"), "train.lr is inf"),
    ("train", "optimizer", "sgd", "'muon' or 'adamw'"),
    ("train", "learning_rate", 1.0, "train.learning_rate is not a known key"),
    ("model", "n_head", 3, "n_embd is 128 and n_head is 3: the width must divide evenly"),
    ("model", "n_embd", 132, "must be even"),
    ("compute", "device", "tpu", "compute.device is 'tpu'"),
    ("download", "corpus", "url", "url is None, but corpus is 'url'"),
]


@pytest.mark.parametrize(("section", "key", "value", "message"), WRONG)
def test_a_wrong_value_is_named_with_file_key_and_value(tmp_path, section, key, value, message):
    document = YAML().load(ROOT / "params.yaml")
    document[section][key] = value
    YAML().dump(document, tmp_path / "params.yaml")
    with pytest.raises(ParameterError) as error:
        read_section(tmp_path / "params.yaml", section, SECTIONS[section])
    assert message in str(error.value)
    assert str(tmp_path / "params.yaml") in str(error.value)


def test_a_missing_key_a_missing_section_and_a_missing_file_are_named(tmp_path):
    path = tmp_path / "params.yaml"
    with pytest.raises(ParameterError, match="does not exist"):
        read_section(path, "tokenize", TokenizeParams)
    path.write_text("tokenize: {}\n")
    with pytest.raises(ParameterError, match=r"tokenize\.val_fraction is missing"):
        read_section(path, "tokenize", TokenizeParams)
    with pytest.raises(ParameterError, match=r"section 'sample' is missing \(the file has: tokenize\)"):
        read_section(path, "sample", SampleParams)


@pytest.mark.parametrize("content", ["a: [", "- 1", "tokenize: {val_fraction: 0.1, val_fraction: 0.2}", "\x00"])
def test_a_file_that_is_no_yaml_of_sections_is_refused(tmp_path, content):
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(ParameterError, match=r"params\.yaml"):
        read_section(tmp_path / "params.yaml", "tokenize", TokenizeParams)


@pytest.mark.parametrize("written", ["1e-5", "1e-05", "0.00001", "1.0E-5"])
def test_small_numbers_are_numbers_however_they_are_written(tmp_path, written):
    document = (ROOT / "params.yaml").read_text().replace("lr: 0.02 ", f"lr: {written} ", 1)
    (tmp_path / "params.yaml").write_text(document)
    assert read_section(tmp_path / "params.yaml", "train", TrainParams).lr == 1e-5
