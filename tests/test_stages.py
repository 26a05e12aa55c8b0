"""tokenize, train, evaluate and sample, one after the other, in a folder of their own."""

import csv
import json
import logging
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from stages.core.documents import write_documents
from stages.core.logs import log
from stages.evaluate.measurements import measure_losses
from stages.generation.text_model import TextModel
from stages.losses.adaptive import adaptive_losses
from stages.metrics.prediction_file import read_predictions
from stages.models.model_folder import load_model, save_model
from stages.report.report_page import SHOWN_METRICS
from stages.tokenizers.registry import load_tokenizer
from stages.tokenizers.token_files import (
    TokenSource,
    load_sources,
    load_tokens,
    subsample_training_text,
    write_metadata,
)
from stages.train.command import flat_params, read_job
from stages.train.distributed import World
from tests.conftest import make_text
from tests.import_graph import KINDS, ROOT
from tests.report.conftest import write_provenance
from tests.small_project import run, set_params


@pytest.fixture(autouse=True)
def _few_tokens_for_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.evaluate.measurements.OVERLAP_LENGTH", 24)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/corpus.txt").write_text(make_text())
    set_params()
    run("tokenize")
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("data/raw").mkdir(parents=True)
        Path("data/raw/corpus.txt").write_text(make_text())
        set_params()
        for stage in ("tokenize", "train"):
            run(stage)
    return folder


@pytest.fixture
def with_model(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_tokenize_divides_the_text(project):
    train, val = (np.load(f"data/tokens/{name}.npy") for name in ("train", "val"))
    length = len(make_text())
    assert (len(train), len(val)) == (int(0.9 * length), length - int(0.9 * length))
    assert train.dtype == np.uint8
    assert load_tokenizer(Path("data/tokens/tokenizer.json")).decode(np.concatenate((train, val))) == make_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xff", "is not UTF-8: byte 0 (line 1) is 0xff"),
        (b"\xff\xfe", "is UTF-16, not UTF-8"),
        (b"x", "of its 1 characters"),
        (b"short text", "of its 10 characters"),
    ],
)
def test_tokenize_refuses_unusable_texts_and_writes_nothing(project, content, message):
    shutil.rmtree("data/tokens")
    Path("data/raw/corpus.txt").write_bytes(content)
    result = run("tokenize", fails=2)
    assert message in result.stderr
    assert not Path("data/tokens").exists()


@pytest.mark.parametrize(
    "model",
    [
        *({"kind": kind} for kind in KINDS if kind != "gpt"),
        {"prior": "none"},
        {"prior": "kneser_ney", "cache_lm": True},
    ],
    ids=str,
)
def test_every_model_trains_evaluates_and_samples(project, model):
    set_params(model=model, train={"lr_embedding": 0.3} if model == {"kind": "bigram"} else {})
    for stage in ("train", "evaluate"):
        run(stage)
    metrics = json.loads(Path("reports/metrics.json").read_text())
    assert [*metrics][:4] == ["val_loss", "sliding_val_loss", "adaptive_val_loss", "val_bits_per_byte"]
    assert metrics["val_loss"] < metrics["uniform_val_loss"]
    assert metrics["sliding_val_loss"] < metrics["val_loss"] + 0.05
    has_counts = model.get("kind") == "kneser_ney" or model.get("prior") == "kneser_ney"
    assert (metrics["adaptive_val_loss"] != metrics["sliding_val_loss"]) == has_counts
    assert metrics["adaptive_val_loss"] < metrics["sliding_val_loss"] + 0.05
    assert metrics["short_block_val_loss"] >= metrics["val_loss"] - 0.01
    assert metrics["unigram_val_loss"] > metrics["bigram_val_loss"] > metrics["kneser_ney_val_loss"]
    assert set(metrics) == SHOWN_METRICS
    assert metrics["val_loss_per_byte"] == metrics["val_loss_per_character"] == metrics["val_loss"]  # plain letters
    run("sample", "--output", "reports/samples.txt")
    page = Path("reports/samples.txt").read_text()
    assert page.count("--- sample") == 2
    assert page.count("the ") >= 2
    curve = Path("reports/train.tsv").read_text().splitlines()
    assert curve[0] == "step\ttokens\ttrain_loss\tval_loss\tlr"
    positions = Path("reports/loss_by_position.tsv").read_text().splitlines()
    assert len(positions) == 33


@pytest.mark.parametrize(
    "tokenize", [{"kind": "byte"}, {"kind": "bpe", "vocab_size": 320}, {"kind": "char", "min_count": 3}], ids=str
)
def test_every_tokenizer_works_in_every_stage(project, tokenize):
    pytest.importorskip("tokenizers")
    text = make_text() + "Ähre 水 😀 " * 20 + make_text(seed=2)
    corpus = Path("data/raw/corpus.txt")
    corpus.write_text(text)
    corpus.with_name("documents.npy").unlink(missing_ok=True)
    set_params(tokenize=tokenize)
    for stage in ("tokenize", "train", "evaluate"):
        run(stage)
    metrics = json.loads(Path("reports/metrics.json").read_text())
    validated = text[int(0.9 * len(text)) :]
    per_token = metrics["val_loss_per_character"] / metrics["val_loss"]
    kind = load_tokenizer(Path("models/tokenizer.json"))
    first = kind.encode(validated)[:1]
    ids = kind.encode(validated)
    assert per_token == pytest.approx((len(ids) - 1) / (len(validated) - len(kind.decode(first))), rel=1e-4)
    assert metrics["val_loss_per_character"] < math.log(20)
    run("sample", "--output", "reports/samples.txt", "--prompt", "the 🍌", "--max-new-tokens", "40")
    assert Path("reports/samples.txt").read_text().count("--- sample") == 2
    scored = json.loads(run("score", "data/raw/corpus.txt", "--json", "--table", "bits.tsv").stdout)
    assert scored["characters"] == len(text) - len(kind.decode(kind.encode(text)[:1]))
    Path("odd.txt").write_text("éa水b")
    run("score", "odd.txt", "--unknown", "nearest", "--table", "odd.tsv")
    odd = pd.read_csv("odd.tsv", sep="\t", quoting=csv.QUOTE_NONE)
    if tokenize["kind"] == "byte":
        assert odd["position"].tolist() == [0, 1, 2, 2, 2, 3]
    table = pd.read_csv("bits.tsv", sep="\t", quoting=csv.QUOTE_NONE, keep_default_na=False)
    assert table["bits"].mean() == pytest.approx(math.log2(scored["perplexity"]), rel=1e-4)
    assert table["text"][0] == text[1] if tokenize["kind"] == "char" else table["position"][0] >= 1
    write_provenance()
    run("report")
    assert f"nats per {kind.unit} on the validation text" in Path("reports/report.html").read_text().replace(
        "</span>", ""
    )


def test_sources_train_by_their_weights_and_each_validates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, letter in (("common", "c"), ("rare", "r")):
        folder = Path(f"data/own/{name}")
        folder.mkdir(parents=True)
        for number in range(10):
            (folder / f"{number}.txt").write_text(f"{letter} {number}\n" * 100)
    set_params(
        download={"corpus": "own", "sources": {"rare/*": 3, "common/*": 1}},
        model={"prior": "none", "block_size": 8},
        sample={"prompt": None},
    )
    for stage in ("download", "tokenize", "train"):
        run(stage)
    tokenizer = load_tokenizer(Path("data/tokens/tokenizer.json"))
    train, val = load_tokens(Path("data/tokens"), tokenizer)
    text = tokenizer.decode(val)
    assert "r 9" in text
    assert "c 9" in text
    assert "9" not in tokenizer.decode(train)
    sources = load_sources(Path("data/tokens"))
    assert [source.weight for source in sources] == [3.0, 1.0]
    assert tokenizer.decode(train[sources[1].start :][:3]) == "c 0"
    weights = [Path("models/model.safetensors").read_bytes()]
    set_params(
        download={"corpus": "own", "sources": {"rare/*": 1, "common/*": 1}},
        model={"prior": "none", "block_size": 8},
        sample={"prompt": None},
    )
    for stage in ("download", "tokenize", "train"):
        run(stage)
    weights.append(Path("models/model.safetensors").read_bytes())
    assert weights[0] != weights[1]  # other windows were drawn


def test_a_vocabulary_of_another_kind_is_refused(project):
    shutil.copy("data/tokens/tokenizer.json", "kept.json")
    set_params(tokenize={"kind": "byte", "tokenizer": "kept.json"})
    assert "set tokenize.kind: char" in run("tokenize", fails=2).stderr


def test_training_twice_gives_equal_files(project):
    contents = []
    for _ in range(2):
        run("train")
        contents.append({path.name: path.read_bytes() for path in Path("models").iterdir()})
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"block_size": 5000}}, "model.block_size is 5000"),
        ({"train": {"lr": "0.1"}}, "train.lr is '0.1'"),
        ({"model": {"n_head": 3}}, "n_head is 3"),
        ({"compute": {"device": "cuda"}}, "compute.device is 'cuda'"),
    ],
)
def test_train_refuses_wrong_parameters_and_leaves_no_model(project, changes, message):
    if changes == {"compute": {"device": "cuda"}} and torch.cuda.is_available():
        pytest.skip("there is a CUDA device, so it cannot be missed")
    set_params(**changes)
    assert message in run("train", fails=2).stderr
    assert not Path("models").exists()


def test_a_long_validation_text_is_subsampled(with_model):
    set_params(evaluate={"max_tokens": 300})
    run("evaluate")
    positions = pd.read_csv("reports/loss_by_position.tsv", sep="\t")
    assert positions["tokens"].sum() == 299
    val = np.load("data/tokens/val.npy")
    predicted = read_predictions(Path("reports/predictions.safetensors"), load_tokenizer(Path("models/tokenizer.json")))
    assert predicted.token_ids.tolist() == val[1:].tolist()  # the report shows the text as it is


def test_evaluate_refuses_a_stride_beyond_the_block(with_model):
    set_params(evaluate={"stride": 33})
    assert "evaluate.stride is 33" in run("evaluate", fails=2).stderr


def test_evaluate_refuses_tokens_of_another_vocabulary(with_model):
    Path("data/raw/corpus.txt").write_text(make_text() + "ÄÖÜ")
    run("tokenize")
    assert "written by a different tokenizer" in run("evaluate", fails=2).stderr


def test_samples_are_printed_and_options_override_parameters(with_model):
    result = run("sample", "--prompt", "king", "--max-new-tokens", "12", "--num-samples", "1", "--temperature", "0")
    assert result.stdout.startswith("king")
    assert len(result.stdout) == len("king") + 12 + 1


def test_sample_needs_nothing_but_the_model(with_model, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    result = run("sample", "--model", "../models", "--max-new-tokens", "5")
    assert len(result.stdout) == 1 + 5 + 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "the 7"], "unknown characters: '7' (U+0037, first at position 4)"),
        (["--prompt", ""], "sample.prompt is ''"),
        (["--temperature", "-1"], "sample.temperature is -1.0"),
        (["--model", "nowhere"], "nowhere; run this in the project folder, or name the folder of a model"),
        (["--params", "none.yaml"], "none.yaml does not exist"),
    ],
)
def test_sample_refuses_invalid_options(with_model, words, message):
    assert message in run("sample", *words, fails=2).stderr


def test_a_prompt_longer_than_the_block_is_continued(with_model):
    prompt = make_text(30)
    assert run("sample", "--prompt", prompt, "--max-new-tokens", "5", "--num-samples", "1").stdout.startswith(prompt)


def test_a_seed_gives_the_same_samples(with_model):
    assert run("sample", "--seed", "3").stdout == run("sample", "--seed", "3").stdout
    assert run("sample", "--seed", "3").stdout != run("sample", "--seed", "4").stdout


def test_a_model_that_is_worse_than_counting_is_reported_everywhere(project):
    set_params(train={"lr": 0.3, "lr_embedding": 0.3, "lr_head": 0.5}, model={"cache_lm": False})
    run("train")
    assert "the model is worse than the n-gram baseline" in run("evaluate").output
    run("sample", "--output", "reports/samples.txt")
    write_provenance()
    run("report")
    for name in ("report.html", "model_card.md"):
        assert "Worse than the n-gram baseline." in Path("reports", name).read_text()


def test_trackers_are_told_the_budget_and_every_setting(project):
    params = flat_params(read_job(Path("params.yaml"), Path("data/tokens"), World()))
    assert params["budget"] == 1
    assert (params["model.n_embd"], params["train.max_steps"]) == (16, 30)


def test_a_text_that_is_used_in_part_is_trained_on_and_evaluated(project):
    set_params(train={"max_tokens": 2000})
    run("train")
    run("evaluate")
    metrics = json.loads(Path("reports/metrics.json").read_text())
    assert metrics["val_loss"] < metrics["kneser_ney_val_loss"] < metrics["uniform_val_loss"]
    in_part = metrics["kneser_ney_val_loss"]
    set_params()
    run("train")
    run("evaluate")
    assert json.loads(Path("reports/metrics.json").read_text())["kneser_ney_val_loss"] < in_part


def test_a_dry_run_refuses_training_windows_longer_than_the_block(project):
    document = YAML().load(Path("params.yaml"))
    document["train"]["window_size"] = 64
    YAML().dump(document, Path("params.yaml"))
    output = run("train", "--dry-run", fails=2).output
    assert "train.window_size is 64: it must be at most model.block_size, 32" in output


def test_settings_that_are_auto_are_chosen_recorded_and_shown(project):
    document = YAML().load(Path("params.yaml"))
    document["model"]["n_embd"] = document["model"]["n_head"] = document["train"]["max_steps"] = "auto"
    YAML().dump(document, Path("params.yaml"))
    lines = run("train", "--dry-run").output
    assert "model.n_embd" in lines
    assert "s of steps on two idle CPU cores" in lines
    assert not Path("models").exists()
    for stage in ("train", "evaluate"):
        run(stage)
    config = json.loads(Path("models/config.json").read_text())
    assert config["training"]["auto"] == ["model.n_embd", "model.n_head", "train.max_steps"]
    assert config["training"]["params"]["max_steps"] == config["training"]["steps"]
    run("sample", "--output", "reports/samples.txt")
    write_provenance()
    run("report")
    assert f"{config['model']['n_embd']} (auto)" in Path("reports/report.html").read_text()
    assert f"train.max_steps: {config['training']['steps']} (auto)" in Path("reports/model_card.md").read_text()


def test_prompts_are_checked_as_soon_as_the_vocabulary_is_known(project):
    for section, key in (("sample", "prompt"), ("evaluate", "attention_prompt")):
        set_params(**{section: {key: "the 🍌"}})
        for stage in ("tokenize", "train"):
            assert f"params.yaml: {section}.{key} is 'the 🍌': unknown character '🍌'" in run(stage, fails=2).stderr
    set_params(sample={"top_p": 2.0})
    for stage in ("download", "tokenize", "train", "evaluate", "report"):
        assert "params.yaml: sample.top_p is 2.0" in run(stage, fails=2).stderr


def test_without_a_prompt_a_text_without_line_breaks_is_continued_too(project):
    Path("data/raw/corpus.txt").write_text("gattaca" * 500)
    set_params(sample={"prompt": None}, model={"prior": "none"})
    for stage in ("tokenize", "train"):
        run(stage)
    run("sample", "--output", "reports/samples.txt")
    assert Path("reports/samples.txt").read_text().startswith("--- sample 1 ---\na")
    assert set(run("sample").stdout) <= set("gatc\n")


def test_a_model_is_never_replaced_by_an_export(with_model):
    pytest.importorskip("transformers")
    before = {path.name: path.read_bytes() for path in Path("models").iterdir()}
    result = run("export", "--to", "huggingface", "--output", "models", fails=2)
    assert "models contains a model of Folio, which would be replaced; choose another --output" in result.stderr
    assert {path.name: path.read_bytes() for path in Path("models").iterdir()} == before


def test_a_model_whose_loss_is_no_number_is_refused(with_model):
    trained = load_model(Path("models"))
    for weight in trained.model.parameters():
        weight.data.fill_(1e38)
    save_model(Path("models"), trained.model, trained.tokenizer, trained.training)
    assert "the loss of the model in models is nan; train it again" in run("evaluate", fails=2).stderr
    assert not Path("reports/metrics.json").exists()


def test_a_continued_training_takes_the_architecture_from_the_model_to_start_from(with_model):
    shutil.copytree("models", "first")
    chosen = {"sliding_window": "auto", "context_experts": "auto"}
    set_params(model={"sliding_window": 4, "context_experts": False})
    run("train")
    shutil.copytree("models", "second")
    for folder, window, has_experts in (("first", 8, True), ("second", 4, False)):
        set_params(model=chosen, train={"init_from": folder, "max_steps": 2})
        run("train")
        params = load_model(Path("models")).model.params
        assert (params.sliding_window, params.context_experts) == (window, has_experts)
    set_params(model={"n_embd": 32, "ngram_order": 3}, train={"init_from": "first"})
    result = run("train", fails=2)
    assert "(model.n_embd is 16 there, 32 here); set `model:` to its values" in result.stderr


def test_text_is_not_held_out_for_nothing(project):
    set_params(train={"held_out_fraction": 0.2})
    result = run("train", fails=2)
    assert (
        "held_out_fraction is 0.2, but nothing uses the held-out text: set keep to best, or patience" in result.stderr
    )


def test_a_part_is_not_held_out_of_several_sources(project):
    set_params(train={"held_out_fraction": 0.2, "keep": "best"})
    write_documents(Path("data/raw/corpus.txt"), [(0, 0, 1.0), (5000, 1, 2.0)])
    run("tokenize")
    result = run("train", fails=2)
    assert "held_out_fraction is 0.2, but the text has 2 sources, and only the last one would be" in result.stderr


def test_the_log_says_which_weights_are_kept_and_why_training_stopped(project):
    set_params(train={"keep": "best", "patience": 1, "max_steps": 30, "eval_every": 1, "lr_head": 3.0})
    output = run("train").output
    stopped = re.search(r"stopped at step (\d+): the last 1 points are no better \(train.patience\)", output)
    kept = re.search(r"kept the weights of step (\d+), the best point \(train.keep\)", output)
    assert stopped
    assert kept
    assert int(kept[1]) == int(stopped[1]) - 1


@pytest.mark.parametrize(
    "path",
    [
        "params.yaml",
        "dvc.yaml",
        "dvc.lock",
        "pyproject.toml",
        "data/raw/corpus.txt",
        "models/config.json",
        "data/raw/../raw/x.tsv",
        "stages/x",
        "docker/x",
        "tests/x",
        ".git/x",
        ".dvc/x",
    ],
)
@pytest.mark.parametrize(
    "command", [("score", "text.txt", "--table"), ("compare", "HEAD", "--page"), ("sample", "--output")]
)
def test_no_output_replaces_a_file_of_the_project(project, command, path):
    Path("text.txt").write_text("abc")
    result = run(*command, path, fails=2)
    assert f"'{path}' belongs to the project itself; choose a new file, for example in reports/" in result.output


def test_a_text_is_scored_as_in_the_adaptive_loss(with_model):
    run("evaluate")
    metrics = json.loads(Path("reports/metrics.json").read_text())
    trained = load_model(Path("models"))
    _, val = load_tokens(Path("data/tokens"), trained.tokenizer)
    Path("val.txt").write_text(trained.tokenizer.decode(val), encoding="utf-8")
    plain, adaptive = (
        json.loads(run("score", "val.txt", "--json", *flag).stdout)["nats_per_character"]
        for flag in ((), ("--adaptive",))
    )
    assert adaptive == pytest.approx(metrics["adaptive_val_loss"], abs=1e-5)
    assert plain == pytest.approx(metrics["sliding_val_loss"], abs=1e-5)
    assert adaptive < plain
    model, training_tokens = TextModel.load("models"), np.load("data/tokens/train.npy", mmap_mode="r")
    bits = model.score(Path("val.txt").read_text(encoding="utf-8"), training_tokens=training_tokens)
    assert bits == pytest.approx(adaptive / math.log(2), abs=1e-5)


def test_a_long_training_text_is_counted_in_pieces_from_all_over_it(with_model, monkeypatch):
    Path("text.txt").write_text("the text")
    monkeypatch.setattr("stages.models.ngram.ngram_memory.MAX_COUNTED_TOKENS", 1000)
    train, _ = load_tokens(Path("data/tokens"), load_tokenizer(Path("models/tokenizer.json")))
    expected, _ = subsample_training_text(train, load_sources(Path("data/tokens")), 1000)
    counted = []

    def losses(_model, train, tokens):
        counted.append(train.numpy())
        return iter([torch.ones(len(tokens) - 1)])

    monkeypatch.setattr("stages.generation.text_model.adaptive_losses", losses)
    run("score", "text.txt", "--adaptive", "--unknown", "skip")
    TextModel.load("models").score("the text", "skip", training_tokens=train)
    assert all(np.array_equal(each, expected) for each in counted)
    assert len(counted) == 2
    assert 900 < len(expected) <= 1000


def test_a_model_without_n_grams_cannot_learn_while_it_scores(project):
    set_params(model={"kind": "bigram"})
    run("train")
    Path("text.txt").write_text("the last")
    assert "the model has no n-grams" in run("score", "text.txt", "--adaptive", fails=2).stderr


def test_a_text_that_does_not_exist_is_named_also_beside_an_existing_table(with_model):
    Path("table.tsv").touch()
    assert "none.txt does not exist" in run("score", "none.txt", "--table", "table.tsv", fails=2).stderr


def test_a_report_without_the_weights_says_what_to_do(with_model):
    run("evaluate")
    run("sample", "--output", "reports/samples.txt")
    write_provenance()
    Path("models/model.safetensors").unlink()
    assert "models/model.safetensors does not exist; run `dvc repro train`" in run("report", fails=2).stderr


def test_the_report_shows_no_secrets_of_addresses(with_model):
    run("evaluate")
    run("sample", "--output", "reports/samples.txt")
    write_provenance()
    set_params(download={"url": "https://me:word@example.org/a.txt?signature=secret"})
    run("report")
    for path in ("reports/report.html", "reports/model_card.md"):
        content = Path(path).read_text()
        assert "secret" not in content
        assert "me:word" not in content
    assert "https://example.org/a.txt?…" in Path("reports/report.html").read_text()


def test_a_text_that_cannot_be_tokenized_leaves_the_tokens_of_the_last_one(with_model):
    before = {path: path.read_bytes() for path in Path("data/tokens").iterdir()}
    shutil.copy("data/tokens/tokenizer.json", "kept.json")
    Path("data/raw/corpus.txt").write_text(make_text(seed=5) + "7")  # only the validation part has the character
    set_params(tokenize={"tokenizer": "kept.json"})
    assert "'7'" in run("tokenize", fails=2).stderr
    assert {path: path.read_bytes() for path in Path("data/tokens").iterdir()} == before


def test_another_text_in_the_folder_is_not_split_by_the_documents_of_the_first(project):
    write_documents(Path("data/raw/corpus.txt"), [(0, 0, 1.0), (7000, 0, 1.0)])
    Path("data/raw/mine.txt").write_text(make_text(200))
    run("tokenize", "--corpus", "data/raw/mine.txt", "--tokens", "data/other")
    train, val = (len(np.load(f"data/other/{name}.npy")) for name in ("train", "val"))
    assert val == pytest.approx(0.1 * (train + val), abs=1)


def test_a_table_does_not_replace_the_text(project):
    Path("text.txt").write_text("abc")
    assert "--table is text.txt, the text itself" in run("score", "text.txt", "--table", "text.txt", fails=2).output
    assert Path("text.txt").read_text() == "abc"


@pytest.mark.parametrize("option", [("--output", "reports/samples.txt"), ("--json",)])
def test_an_interactive_session_has_no_output_file(option):
    assert (
        "--interactive cannot be used with --output or --json"
        in run("sample", "--interactive", *option, fails=2).stderr
    )


def test_a_line_that_is_not_in_the_encoding_does_not_end_an_interactive_session(with_model):
    done = subprocess.run(
        [sys.executable, "-m", "stages.sample", "--interactive", "--max-new-tokens", "5"],
        input=b"th\xe9\nthe \n",
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8:strict"},
        capture_output=True,
        check=True,
    )
    assert b"unpaired surrogate" in done.stderr
    assert b"the " in done.stdout


def test_a_model_that_is_worse_than_a_uniform_distribution_is_reported(with_model, monkeypatch):
    def measure(*arguments):
        report, metrics = measure_losses(*arguments)
        return report, metrics | {"val_loss": metrics["uniform_val_loss"] + 0.1}

    assert "uniform distribution" not in run("evaluate").output
    monkeypatch.setattr("stages.evaluate.command.measure_losses", measure)
    assert "the model is worse than a uniform distribution, whose loss is" in run("evaluate").output


def test_an_interactive_session_generates_one_sample_for_each_prompt():
    assert "leave out --num-samples" in run("sample", "--interactive", "--num-samples", "3", fails=2).stderr


@pytest.mark.parametrize(("min_count", "warns"), [(1, False), (10_000, True)])
def test_the_share_of_unknown_characters_is_reported(project, min_count, warns):
    set_params(tokenize={"min_count": min_count}, sample={"prompt": " "})
    assert re.search(r"[\d.]+ % of the characters are encoded as \ufffd", run("tokenize").stderr)
    try:
        assert ("are encoded as \ufffd" in run("tokenize", "--quiet").stderr) == warns
    finally:
        log.setLevel(logging.INFO)  # --quiet is for the rest of the process


def test_bpe_says_if_it_finds_fewer_tokens(project):
    set_params(tokenize={"kind": "bpe", "vocab_size": 60_000})
    assert re.search(r"tokenize.vocab_size is 60000, but BPE finds only \d+ tokens in the text", run("tokenize").stderr)


def test_a_dry_run_refuses_what_training_would_refuse(project):
    set_params(compute={"device": "mps"})
    assert "compute.device is 'mps'" in run("train", "--dry-run", fails=2).stderr


def test_more_processes_than_cores_are_announced(project):
    set_params(train={"processes": 512, "batch_size": 512})
    assert "train.processes is 512, but there are only" in run("train", "--dry-run").stderr


def test_the_remaining_time_is_logged(project):
    lines = run("train").stderr
    assert re.search(r"step 10 of 30, loss [\d.]+, \d+ s left", lines)
    assert re.search(r"step 30 of 30, loss [\d.]+, 0 s left", lines)


def test_evaluation_counts_the_part_of_the_text_that_training_counted(project, monkeypatch):
    tokenizer = load_tokenizer(Path("data/tokens/tokenizer.json"))
    write_metadata(Path("data/tokens"), tokenizer, [TokenSource(0, 1.0), TokenSource(3000, 9.0)])
    set_params(train={"max_tokens": 1000, "max_steps": 2})
    run("train")
    counted = []

    def measure(*arguments):
        counted.append(arguments[2])
        return measure_losses(*arguments)

    monkeypatch.setattr("stages.evaluate.command.measure_losses", measure)
    run("evaluate")
    expected = read_job(Path("params.yaml"), Path("data/tokens"), World()).train_ids
    assert 900 < len(expected) <= 1000
    assert np.array_equal(counted[0].numpy(), expected)
    trained = load_model(Path("models"))
    train, val = (torch.from_numpy(ids) for ids in load_tokens(Path("data/tokens"), tokenizer))
    of_all = torch.cat(list(adaptive_losses(trained.model.eval(), train, val))).double().mean()
    assert json.loads(Path("reports/metrics.json").read_text())["adaptive_val_loss"] == pytest.approx(
        float(of_all), abs=1e-6
    )


@pytest.mark.parametrize(("threads", "used"), [(0, 1), (2, 2)])
def test_few_samples_use_one_thread_unless_params_yaml_says_otherwise(with_model, threads, used):
    set_params(compute={"threads": threads})
    run("sample", "--output", "reports/samples.txt")
    assert torch.get_num_threads() == used


def test_runs_are_compared_in_a_project_only(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert f"{tmp_path} has no dvc.yaml; run this in the project folder" in run("compare", "HEAD", fails=2).stderr


def test_the_plan_says_that_windows_share_the_tokens_of_a_step(project):
    set_params(model={"block_size": "auto", "sliding_window": "auto"}, train={"batch_size": 64})
    assert re.search(
        r"model.block_size +64 +64 windows share 2048 tokens, or get 64 each", run("train", "--dry-run").stderr
    )
