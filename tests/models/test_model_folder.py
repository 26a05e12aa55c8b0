import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load, save

from stages.core.errors import ModelError, WorkError
from stages.core.records import TrainingRecord
from stages.models.base import build_model
from stages.models.model_folder import load_model, save_model
from stages.tokenizers.char import CharTokenizer
from tests.conftest import model_params

TOKENIZER = CharTokenizer("abcde")
IDS = torch.tensor([[0, 1, 2, 3, 4, 3, 2, 1]])
KINDS = [
    {"kind": "bigram"},
    {"kind": "kneser_ney", "cache_lm": True},
    {},
    {"prior": "kneser_ney", "n_layer": 2},
]


def flip_a_bit(whole: bytes) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


FILES = ["model.safetensors", "config.json", "tokenizer.json"]


def saved(folder, **changes):
    torch.manual_seed(1)
    model = build_model(model_params(**changes), len(TOKENIZER))
    model.fit(torch.randint(5, (300,)))
    for weight in model.parameters():
        weight.data.normal_()
    save_model(folder, model.eval(), TOKENIZER, TrainingRecord(steps=7, tokens_seen=70))
    return model


@pytest.mark.parametrize("changes", KINDS)
def test_a_saved_model_predicts_the_same_when_loaded(tmp_path, changes):
    model = saved(tmp_path, **changes)
    torch.manual_seed(99)  # nothing comes from fresh weights
    back = load_model(tmp_path)
    assert torch.equal(model(IDS), back.model(IDS))
    assert back.tokenizer.characters == TOKENIZER.characters
    assert back.training == TrainingRecord(steps=7, tokens_seen=70)
    assert not back.model.training


def test_equal_models_make_equal_files(tmp_path):
    for name in "ab":
        saved(tmp_path / name)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(flip_a_bit, id="one bit flipped"),
        pytest.param(lambda whole: whole[:-1], id="truncated"),
        pytest.param(lambda whole: whole + b"\0", id="extended"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)  # fmt: skip
def test_damage_is_found_and_named(tmp_path, file, damage):
    saved(tmp_path)
    path = tmp_path / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=rf"{file} is damaged"):
        load_model(tmp_path)


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(tmp_path, file):
    saved(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ModelError, match=rf"{file} is missing"):
        load_model(tmp_path)


def test_the_error_for_a_missing_model_names_the_command_that_trains_one(tmp_path):
    with pytest.raises(ModelError, match=r"has no model.*dvc repro train"):
        load_model(tmp_path)


def test_a_damaged_manifest_is_named(tmp_path):
    saved(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ModelError, match=r"manifest\.json is damaged"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"), [("format", 99, "has format 99"), ("model", {"kind": "lstm"}, "'lstm' is not a model")]
)
def test_a_config_of_another_version_is_refused(tmp_path, key, value, message):
    saved(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: value}))
    manifest = tmp_path / "manifest.json"
    sums = json.loads(manifest.read_text())
    sums["sha256"]["config.json"] = hashlib.sha256(config.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(sums))
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, value):
    model = saved(tmp_path)
    with torch.no_grad():
        model.head[0, 0] = value
    with pytest.raises(WorkError, match="the weight head is infinite or NaN"):
        save_model(tmp_path, model, TOKENIZER, TrainingRecord())
    weights = load((tmp_path / "model.safetensors").read_bytes())
    weights["head"][0, 0] = value
    rewrite(tmp_path, "model.safetensors", save(weights))
    with pytest.raises(ModelError, match="the weight head is infinite or NaN"):
        load_model(tmp_path)


def rewrite(folder, name, content):
    """Replace a file, and its digest in the manifest."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][name] = hashlib.sha256(content).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b'{"format": 4, "model": {}}'),
        ("config.json", b'{"format": 4, "model": 5, "training": {}}'),
        ("config.json", b"[]"),
        ("config.json", b"[" * 100_000),
        ("config.json", b'{"format": 4, "model": {"kind": "bigram"}, "training": 7}'),
        ("tokenizer.json", b"[]"),
        ("tokenizer.json", b'{"kind": "char", "characters": 7}'),
        ("tokenizer.json", b'{"kind": ["char"]}'),
        ("tokenizer.json", b'{"kind": "bpe", "merges": [["a", "never"]]}'),
        ("tokenizer.json", b"{" * 100_000),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 100),
    ],
)  # fmt: skip
def test_files_with_the_right_digest_and_the_wrong_content_give_one_line(tmp_path, name, content):
    saved(tmp_path)
    rewrite(tmp_path, name, content)
    with pytest.raises(ModelError) as error:
        load_model(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "manifest", ["", "[]", "5", '{"sha256": []}', '{"sha256": {}}', '{"sha256": 3}', "[" * 100_000]
)
def test_a_damaged_manifest_gives_one_line(tmp_path, manifest):
    saved(tmp_path)
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(ModelError, match=r"manifest|damaged"):
        load_model(tmp_path)


def test_two_writers_and_a_reader_never_see_a_mixture(tmp_path):
    models = {width: build_model(model_params(n_embd=width), len(TOKENIZER)) for width in (16, 24)}
    for width, model in models.items():
        for weight in model.parameters():
            weight.data.fill_(width)
    end = time.monotonic() + float(os.environ.get("FOLIO_RACE_SECONDS", "2"))
    loaded = 0

    def write(width: int) -> None:
        while time.monotonic() < end:
            save_model(tmp_path, models[width], TOKENIZER, TrainingRecord(steps=width))

    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write, width) for width in models]
        while time.monotonic() < end:
            try:
                trained = load_model(tmp_path)
            except ModelError:
                continue
            width = trained.training.steps
            assert trained.model.params.n_embd == width
            assert all((weight == width).all() for weight in trained.model.parameters())
            loaded += 1
        for writer in writers:
            writer.result()
    assert loaded


def test_weights_that_another_process_wrote_in_between_do_not_pass_for_ours(tmp_path, monkeypatch):
    saved(tmp_path / "other")
    others = (tmp_path / "other/model.safetensors").read_bytes()

    def write_and_be_overwritten(path, content):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(others if path.name == "model.safetensors" else content)

    monkeypatch.setattr("stages.models.model_folder.write_bytes", write_and_be_overwritten)
    saved(tmp_path / "ours", n_embd=24)
    with pytest.raises(ModelError, match=r"model\.safetensors is damaged"):
        load_model(tmp_path / "ours")
