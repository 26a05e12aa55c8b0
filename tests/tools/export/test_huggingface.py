import os
import subprocess
import sys

import pytest
import torch
from click.testing import CliRunner

from stages.cli import folio
from stages.core.files import sha256
from stages.core.records import TrainingRecord
from stages.models.base import build_model
from stages.models.model_folder import load_model, save_model
from stages.models.registry import MODELS
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.bpe import BpeTokenizer
from stages.tokenizers.byte import ByteTokenizer
from stages.tokenizers.char import CharTokenizer
from tests.conftest import make_text, model_params
from tests.small_project import run

transformers = pytest.importorskip("transformers", reason="transformers is not installed: exporting was not tested")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
TEXT = make_text(300) + "\n\n  ,.!? é😀\t\r\n"
TOKENIZER = CharTokenizer.from_text(TEXT)


def saved_model(folder, **changes) -> None:
    torch.manual_seed(1)
    model = build_model(model_params(n_layer=2, **changes), len(TOKENIZER))
    model.fit(torch.from_numpy(TOKENIZER.encode(TEXT)))
    for weight in model.parameters():
        weight.data.normal_(std=0.3)
    save_model(folder, model, TOKENIZER, TrainingRecord())


@pytest.mark.parametrize(("kind", "theirs"), [("lecture_gpt", "GPT2LMHeadModel"), ("gpt", "NanoChatForCausalLM")])
def test_plain_transformers_gives_our_logits_and_round_trips_our_texts(tmp_path, monkeypatch, kind, theirs):
    monkeypatch.chdir(tmp_path)
    saved_model(tmp_path / "models", kind=kind)
    words = ["export", "--model", str(tmp_path / "models"), "--to", "huggingface", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(folio, words)
    assert result.exit_code == 0, result.output
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert type(model).__name__ == theirs
    ids = tokenizer(TEXT)["input_ids"]
    assert ids == TOKENIZER.encode(TEXT).tolist()
    assert tokenizer.decode(ids) == TEXT
    window = torch.tensor([ids[:32], ids[40:72]])
    with torch.no_grad():
        torch.testing.assert_close(
            model(window).logits, load_model(tmp_path / "models").model(window), atol=1e-5, rtol=1e-5
        )
    written = model.generate(window[:, :5], max_new_tokens=10, do_sample=False)
    assert written.shape == (2, 15)


WITH_CODE: dict[str, dict[str, object]] = {
    "ngrams": {"prior": "kneser_ney", "cache_lm": True},
    "window": {"sliding_window": 8},
    **{kind: {"kind": kind} for kind in ("bigram", "average", "head", "multihead", "block", "kneser_ney")},
}
# What a user does who has `transformers`, but not Folio.
USE = """
import sys

sys.modules["stages"] = None
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

text = sys.stdin.read()
for name in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(name, trust_remote_code=True)
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=True)
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    assert tokenizer.decode(ids[0]) == text
    window = torch.cat((ids[:, :32], ids[:, 40:72]))
    with torch.no_grad():
        result = model(window, labels=window)
    torch.save([result.logits, result.loss], f"{name}/result.pt")
    written = [
        model.generate(window[:, :5], max_new_tokens=27, do_sample=False, use_cache=cache) for cache in (True, False)
    ]
    assert torch.equal(*written), name
    assert model.generate(window[:, :5], max_new_tokens=60, do_sample=False).shape == (2, 65)
    for wrong, message in (
        ({"input_ids": ids}, "more than the block size of 32"),
        ({"input_ids": window, "attention_mask": window < 0}, "no padding"),
        ({"input_ids": window[:, :0]}, "the text is empty"),
    ):
        try:
            model(**wrong)
        except ValueError as error:
            assert message in str(error)
        else:
            raise AssertionError(name)
    model.save_pretrained(f"{name}/again")
    again = AutoModelForCausalLM.from_pretrained(f"{name}/again", trust_remote_code=True)
    with torch.no_grad():
        assert torch.equal(again(window).logits, result.logits)
"""


@pytest.mark.pipeline
def test_every_other_model_opens_with_its_code_where_folio_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, changes in WITH_CODE.items():
        saved_model(tmp_path / f"ours/{name}", **changes)
        run("export", "--model", f"ours/{name}", "--to", "huggingface", "--output", name)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", USE, *WITH_CODE],
        input=TEXT,
        env=os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ids = torch.from_numpy(TOKENIZER.encode(TEXT)).long()
    window = torch.stack((ids[:32], ids[40:72]))
    for name in WITH_CODE:
        logits, loss = torch.load(tmp_path / name / "result.pt")
        with torch.no_grad():
            ours = load_model(tmp_path / f"ours/{name}").model(window)
        torch.testing.assert_close(logits, ours, atol=1e-4, rtol=1e-4)
        expected = torch.nn.functional.cross_entropy(ours[:, :-1].flatten(0, 1), window[:, 1:].flatten())
        torch.testing.assert_close(loss, expected)


def test_code_of_an_earlier_export_does_not_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, kind, has_code in (("ngrams", "kneser_ney", True), ("plain", "gpt", False)):
        saved_model(tmp_path / name, kind=kind)
        output = run("export", "--model", name, "--to", "huggingface", "--output", "out").output
        assert 'from_pretrained("out"' in output
        assert (", trust_remote_code=True)" in output) is has_code  # the advice works as it is
        assert (tmp_path / "out/modeling_folio.py").exists() is has_code
        assert (tmp_path / "out/LICENSE").exists() is has_code
        assert bool([*(tmp_path / "out").glob("folio_*.py")]) is has_code


def test_a_folder_with_other_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved_model(tmp_path / "models", kind="bigram")
    notes = tmp_path / "notes/config.json"  # of another program
    notes.parent.mkdir()
    notes.write_text("{}")
    result = CliRunner().invoke(folio, ["export", "--output", "notes"])
    assert result.exit_code == 2
    assert "notes is not empty and does not hold an exported model; choose another --output" in result.output
    assert [*notes.parent.iterdir()] == [notes]
    assert notes.read_text() == "{}"
    (tmp_path / "empty").mkdir()
    run("export", "--output", "empty")


def test_every_model_can_be_exported():
    assert {*MODELS} - {"lecture_gpt", "gpt"} < {*WITH_CODE}


def test_the_card_goes_with_the_model_that_it_is_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved_model(tmp_path / "models", kind="gpt")
    digest = sha256(tmp_path / "models/model.safetensors")
    words, exported = ["export", "--card", "card.md", "--output", "out"], tmp_path / "out/README.md"
    for card, copied in (("of another", False), (digest, True)):
        (tmp_path / "card.md").write_text(card)
        run(*words)
        assert exported.exists() is copied
    exported.write_text(f"edited, of {digest}")
    (tmp_path / "card.md").write_text("of another")
    run(*words)
    run("export", "--card", "out/README.md", "--output", "out")
    assert exported.read_text() == f"edited, of {digest}"
    saved_model(tmp_path / "models", kind="bigram")
    run(*words)
    assert not exported.exists()


@pytest.mark.parametrize("kind", ["byte", "bpe", "unknown"])
def test_every_kind_of_tokens_goes_along(tmp_path, kind):
    text = "the king, the 水 and the queen\n\n" * 20
    ours: Tokenizer = {
        "byte": ByteTokenizer(),
        "bpe": BpeTokenizer.from_chunks([text], 300),
        "unknown": CharTokenizer.from_text(text, min_count=1),
    }[kind]
    from stages.tools.export.huggingface import to_fast_tokenizer

    to_fast_tokenizer(ours, 64).save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for sample in (text, "  a 🍌\r\nstrange one") if kind != "unknown" else (text, "the 🍌"):
        ids = theirs(sample)["input_ids"]
        assert ids == ours.encode(sample).tolist()
        assert theirs.decode(ids) == ours.decode(ids)
