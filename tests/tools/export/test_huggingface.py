import pytest
import torch
from click.testing import CliRunner

from stages.cli import folio
from stages.core.files import sha256
from stages.core.records import TrainingRecord
from stages.models.base import build_model
from stages.models.model_folder import load_model, save_model
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.bpe import BpeTokenizer
from stages.tokenizers.byte import ByteTokenizer
from stages.tokenizers.char import CharTokenizer
from tests.conftest import make_text, model_params

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


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "bigram"}, "kind 'bigram' cannot be exported"),
        ({"kind": "kneser_ney"}, "kind 'kneser_ney' cannot be exported"),
        ({"prior": "kneser_ney"}, "model.prior is 'kneser_ney'"),
        ({"sliding_window": 8}, "model.sliding_window is 8"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_the_reason(tmp_path, monkeypatch, changes, reason):
    monkeypatch.chdir(tmp_path)
    saved_model(tmp_path / "models", **changes)
    words = ["export", "--model", str(tmp_path / "models"), "--to", "huggingface", "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(folio, words)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_card_goes_with_the_model_that_it_is_of(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved_model(tmp_path / "models", kind="gpt")
    words = ["export", "--to", "huggingface", "--card", "card.md", "--output", "out"]
    for card, copied in (("of another", False), (sha256(tmp_path / "models/model.safetensors"), True)):
        (tmp_path / "card.md").write_text(card)
        assert CliRunner().invoke(folio, words).exit_code == 0
        assert (tmp_path / "out/README.md").exists() is copied


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
