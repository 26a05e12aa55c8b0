"""params.yaml is complete, equals the defaults, and every kind of mistake in it is explained."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages.core import params
from stages.core.compute_params import ComputeParams
from stages.core.errors import ParameterError
from stages.core.params import RENAMED_KEYS, Section, check_file, read_budget, read_explicit, read_section, without_auto
from stages.download.params import DownloadParams
from stages.evaluate.params import EvaluateParams
from stages.models.params import ModelParams
from stages.models.registry import MODELS
from stages.report.params import ReportParams
from stages.sample.params import SampleParams
from stages.tokenize.params import TokenizeParams
from stages.train.params import RuntimeParams, TrainParams
from tests.import_graph import ROOT

SECTIONS: dict[str, type[Section]] = {
    "compute": ComputeParams,
    "download": DownloadParams,
    "tokenize": TokenizeParams,
    "model": ModelParams,
    "train": TrainParams,
    "runtime": RuntimeParams,
    "evaluate": EvaluateParams,
    "sample": SampleParams,
    "report": ReportParams,
}


def test_the_file_shows_every_default():
    document = YAML(typ="safe").load(ROOT / "params.yaml")
    defaults = {
        name: section().model_dump() | dict.fromkeys(section.auto_keys, "auto") for name, section in SECTIONS.items()
    }
    assert document == {"budget": 1} | defaults


def test_every_key_has_a_comment():
    section = ""
    for line in (ROOT / "params.yaml").read_text().splitlines():
        key = line.split(":")[0].strip()
        if line and not line.startswith((" ", "#")):
            section = key
        elif line.startswith("  "):
            assert "# " in line, f"{section}.{key} has no comment"


def test_the_comment_of_kind_names_every_model():
    (line,) = (line for line in (ROOT / "params.yaml").read_text().splitlines() if line.startswith("  kind: gpt"))
    assert all(kind in line for kind in MODELS)


INVALID = [
    ("train", "max_steps", "ten", "train.max_steps is 'ten' (str)"),
    ("train", "max_steps", True, "train.max_steps is true (bool)"),
    ("train", "max_steps", 0, "greater than or equal to 1"),
    ("train", "max_steps", 1.5, "train.max_steps is 1.5 (float)"),
    ("train", "lr", "1e-3", "train.lr is '1e-3' (str)"),
    ("train", "lr", float("nan"), "train.lr is nan"),
    ("train", "lr", float("inf"), "train.lr is inf"),
    ("train", "optimizer", "sgd", "'muon' or 'adamw'"),
    ("train", "learning_rate", 1.0, "train.learning_rate is not a known key; remove it or correct its spelling"),
    ("train", "batchsize", 1, "train.batchsize is not a known key; did you mean batch_size?"),
    ("model", "nlayer", 1, "model.nlayer is not a known key; did you mean n_layer?"),
    ("model", "n_head", 3, "n_embd is 128 and n_head is 3: n_embd must be a multiple"),
    ("model", "n_embd", 132, "must be even"),
    ("model", "kind", "lstm", "'lstm' is not a model; set it to one of: bigram, average"),
    ("compute", "device", "tpu", "compute.device is 'tpu'"),
    ("download", "corpus", "url", "url is None, but corpus is 'url'"),
]


def test_the_message_about_a_value_that_may_be_chosen_says_so(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("train: {lr: fast, seed: one}")
    with pytest.raises(ParameterError) as error:
        read_explicit(path, "train", TrainParams)
    assert str(error.value) == (
        f"{path}: train.seed is 'one' (str): it must be a valid integer; "
        f"{path}: train.lr is 'fast' (str): it must be a valid number, or auto"
    )


@pytest.mark.parametrize(("section", "key", "value", "message"), INVALID)
def test_an_invalid_value_is_named_with_file_key_and_value(tmp_path, section, key, value, message):
    document = YAML(typ="safe").load(ROOT / "params.yaml")
    document[section] = without_auto(document[section], SECTIONS[section]) | {key: value}
    YAML().dump(document, tmp_path / "params.yaml")
    with pytest.raises(ParameterError) as error:
        read_section(tmp_path / "params.yaml", section, SECTIONS[section])
    assert message in str(error.value)
    assert str(tmp_path / "params.yaml") in str(error.value)


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"train: {{seed: {'9' * 5000}}}", "is not valid YAML: Exceeds the limit (4300 digits)"),
        (f"train: {{seed: {'9' * 4000}}}", "seed is 9999"),
        (f"budget: {'9' * 4000}", "budget is 9999"),
        ("budget: 1000001", "and at most 1000000"),
        ("[" * 3000, "is not valid YAML"),
        (BOMB + "train: *a39", "train is [[[...]"),
        (BOMB + "train: {seed: *a39}", "train.seed is [[[...]"),
        (BOMB + "budget: *a39", "budget is [[[...]"),
        (BOMB + "download: {sources: {a: *a39}}", "download.sources.a is [[[...]"),
        ("download: {sources: {a: 1.0e+308}}", "download.sources.a is 1e+308 (float): it must be less than"),
        ("train: {batch_size: 1000000000000000000000}", "batch_size is 1000000000000000000000: it must be at most"),
        ('train: {init_from: "a\\0b"}', "train.init_from is 'a\\x00b'"),
        ("sample: {top_p: 2}", "sample.top_p is 2"),
        ("report: {nosuch: 1}", "report.nosuch is not a known key"),
        ("budgt: 5", "'budgt' is not a known name; did you mean budget?"),
        ("tain: {seed: 1}", "'tain' is not a known name; did you mean train?"),
        (
            "budget: 1\ntrain:\n\tseed: 1\n",
            "is not valid YAML (line 3): a tab where only spaces are allowed; replace it",
        ),
        ("train: {seed: 1}\ntrain: {seed: 2}\n", 'found duplicate key "train"; remove one of the two'),
        (
            "download: {sources: '*.md'}",
            """download.sources is '*.md' (str): it must be a mapping, such as {"*.md": 1.0}""",
        ),
        ("download: {sources: {}}", "download.sources is {} (dict): it must not be empty"),
        ("sample: {stop: 'JULIET:'}", "sample.stop is 'JULIET:' (str): it must be a list, in square brackets"),
        ("compute: {deterministic: 'yes'}", "compute.deterministic is 'yes' (str): it must be true or false"),
        ("model: {kind: null}", "model.kind is null"),
    ],
)
def test_the_whole_file_is_checked_and_a_message_is_short(tmp_path, content, message):
    path = tmp_path / "params.yaml"
    path.write_text(content)
    with pytest.raises(ParameterError) as error:
        check_file(path)
    assert message in str(error.value)
    assert len(str(error.value)) < 1000


def test_empty_sections_have_their_defaults_and_own_sections_are_ignored(tmp_path, monkeypatch):
    path = tmp_path / "params.yaml"
    path.write_text("report:\nnotes: mine\ntrain:\ntraining: mine\n")
    check_file(path)
    assert read_section(path, "report", ReportParams) == ReportParams()
    monkeypatch.setenv("DVC_STAGE", "download")
    with pytest.raises(ParameterError, match="section 'compute' is missing"):
        check_file(path)


def test_every_section_has_a_class_in_the_code():
    classes = {name: f"{section.__module__}:{section.__name__}" for name, section in SECTIONS.items()}
    assert classes == params.SECTIONS


@pytest.mark.parametrize(("old", "new"), RENAMED_KEYS.items())
def test_a_key_of_an_earlier_version_is_refused_with_its_new_name(tmp_path, old, new):
    section, key = old.split(".")
    (tmp_path / "params.yaml").write_text(f"{section}: {{{key}: 1}}\n")
    message = f"{old} is now {new}; rename it" if new else f"{old} was removed; delete it"
    with pytest.raises(ParameterError, match=re.escape(message)):
        read_section(tmp_path / "params.yaml", section, SECTIONS[section])
    if new:
        new_section, new_key = new.split(".")
        assert new_key in SECTIONS[new_section].model_fields
    assert f"`{old}`" in (ROOT / "CHANGELOG.md").read_text()


def test_missing_keys_have_their_defaults(tmp_path):
    (tmp_path / "params.yaml").write_text("tokenize: {val_fraction: 0.2}\n")
    assert read_section(tmp_path / "params.yaml", "tokenize", TokenizeParams) == TokenizeParams(val_fraction=0.2)


def test_a_missing_section_and_a_missing_file_are_named(tmp_path):
    path = tmp_path / "params.yaml"
    with pytest.raises(ParameterError, match="does not exist"):
        read_section(path, "tokenize", TokenizeParams)
    path.write_text("tokenize: {}\n")
    with pytest.raises(ParameterError, match=r"section 'sample' is missing \(the file has: tokenize\)"):
        read_section(path, "sample", SampleParams)


@pytest.mark.parametrize("content", ["a: [", "- 1", "tokenize: {val_fraction: 0.1, val_fraction: 0.2}", "\x00"])
def test_a_file_without_sections_is_refused(tmp_path, content):
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(ParameterError, match=r"params\.yaml"):
        read_section(tmp_path / "params.yaml", "tokenize", TokenizeParams)


@pytest.mark.parametrize("notation", ["1e-5", "1e-05", "0.00001", "1.0E-5"])
def test_small_numbers_are_numbers_in_any_notation(tmp_path, notation):
    document = (ROOT / "params.yaml").read_text().replace("lr: auto ", f"lr: {notation} ", 1)
    (tmp_path / "params.yaml").write_text(document)
    assert read_explicit(tmp_path / "params.yaml", "train", TrainParams)["lr"] == 1e-5


def test_explicit_values_are_those_that_are_not_auto(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("model: {n_embd: 96, n_head: auto}\ntrain: {seed: 5, compile: auto}\n")
    assert read_explicit(path, "model", ModelParams) == {"kind": "gpt", "n_embd": 96}
    train = read_explicit(path, "train", TrainParams)
    assert (train["seed"], train["compile"], train["keep"]) == (5, "auto", "last")
    assert not TrainParams.auto_keys & set(train)
    path.write_text("train: {seed: auto}\n")
    with pytest.raises(ParameterError, match=r"train.seed is 'auto' \(str\)"):
        read_explicit(path, "train", TrainParams)


@pytest.mark.parametrize(("line", "budget"), [("budget: 10", 10.0), ("budget: 0.5", 0.5), ("x: 1", 1.0)])
def test_the_budget_is_a_number_of_minutes(tmp_path, line, budget):
    (tmp_path / "params.yaml").write_text(line)
    assert read_budget(tmp_path / "params.yaml") == budget


@pytest.mark.parametrize("value", ["0", "-1", "true", "long", ".inf", ".nan"])
def test_another_budget_is_refused(tmp_path, value):
    (tmp_path / "params.yaml").write_text(f"budget: {value}")
    with pytest.raises(ParameterError, match=r"budget is .*: it must be a number of minutes above 0"):
        read_budget(tmp_path / "params.yaml")


def test_every_section_of_the_code_is_in_the_file():
    defined = {path.parent.name for path in (ROOT / "stages").rglob("params.py")} - {"core", "models", "generation"}
    assert {*defined, "compute", "model", "runtime"} == set(SECTIONS)
    assert Path(ROOT / "params.yaml").exists()
