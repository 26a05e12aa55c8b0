import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from ruamel.yaml import YAML

from stages.cli import folio
from stages.report.command import SHOWN_SECTIONS
from stages.report.report_page import format_metric
from tests.conftest import make_text
from tests.report.conftest import make_project, write_provenance
from tests.small_project import run
from tests.test_dvc_yaml import STAGES


class Reader(HTMLParser):
    """Collects what a page shows and what it asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[tuple[str, str]] = []  # names and what is shown
        self.titles: list[str] = []  # of metrics
        self.asked: list[str] = []
        self.identifiers: list[str] = []
        self._metric: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "data-metric":
                self._metric = value
                self.titles.append(str(dict(attrs)["title"]))
            if name == "id":
                self.identifiers.append(str(value))
            if name in ("src", "href", "xlink:href", "action") and not str(value).startswith(("#", "data:")):
                self.asked.append(f"{tag} {value}")

    def handle_data(self, data: str) -> None:
        if self._metric:
            self.metrics.append((self._metric, data))
            self._metric = None


def test_every_metric_is_shown_with_the_value_in_metrics_json(inside: Path):
    metrics = json.loads(Path("reports/metrics.json").read_text())
    reader = Reader()
    reader.feed(Path("reports/report.html").read_text())
    assert {name for name, _ in reader.metrics} == set(metrics)
    assert all(format_metric(metrics[name]) == shown for name, shown in reader.metrics)
    assert set(reader.titles) == {f"{name}: {value}" for name, value in metrics.items()}
    card = Path("reports/model_card.md").read_text()
    assert all(f"| {name} | {value} |" in card for name, value in metrics.items())


def test_the_page_loads_nothing_and_its_identifiers_are_unique(inside: Path):
    page = Path("reports/report.html").read_text()
    reader = Reader()
    reader.feed(page)
    assert not reader.asked
    assert not re.search(r"@import|url\((?!#)", page)
    assert len(reader.identifiers) == len(set(reader.identifiers))


def test_awkward_text_is_shown_as_text(inside: Path):
    page = Path("reports/report.html").read_text()
    assert page.count("</script>") == 2  # the data, the program
    assert "<none>" not in page
    details = re.search(r'<script type="application/json" id="details">(.*?)</script>', page, re.DOTALL)
    assert details
    rows = json.loads(details[1])
    assert len(rows) == 200 == len(re.findall(r'<span class="l\d">', page)) - 8  # and the key
    assert all(0 < row[1] <= 1 and len(row[2]) == len(row[3]) == 5 for row in rows)


def test_the_report_is_reproducible(inside: Path):
    files = ["reports/report.html", "reports/model_card.md", *map(str, Path("reports/figures").iterdir())]
    before = {name: Path(name).read_bytes() for name in files}
    run("report")
    assert {name: Path(name).read_bytes() for name in files} == before


def test_the_trained_model_is_described_even_if_params_yaml_has_changed(inside: Path):
    document = Path("params.yaml").read_text()
    Path("params.yaml").write_text(document.replace("kind: gpt ", "kind: bigram "))
    run("report", "--page", "reports/other.html")
    Path("params.yaml").write_text(document)
    assert "<h1>gpt on own</h1>" in Path("reports/other.html").read_text()
    Path("reports/other.html").unlink()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("é§", "evaluate.attention_prompt is 'é§': unknown character '§'"),
        ("", "evaluate.attention_prompt is ''"),
        ("a" * 33, "evaluate.attention_prompt is 'aaa"),
    ],
)
def test_an_invalid_attention_prompt_is_named(inside: Path, prompt: str, message: str):
    document = Path("params.yaml").read_text()
    changed = YAML().load(document)
    changed["evaluate"]["attention_prompt"] = prompt
    YAML().dump(changed, Path("params.yaml"))
    result = CliRunner().invoke(folio, ["evaluate"])
    Path("params.yaml").write_text(document)
    assert result.exit_code == 2
    assert message in result.output


def test_a_missing_or_damaged_input_is_named(inside: Path):
    for option in ("--samples", "--metrics", "--predictions"):
        result = CliRunner().invoke(folio, ["report", option, "nosuch"])
        assert result.exit_code == 2
        assert "nosuch does not exist; run `dvc repro" in result.output
    Path("empty.json").write_text("{}")
    assert (
        "empty.json has no adaptive_val_loss" in CliRunner().invoke(folio, ["report", "--metrics", "empty.json"]).output
    )


def test_a_substitute_is_announced(inside: Path):
    write_provenance("tinyshakespeare")
    run("report", "--page", "reports/other.html")
    assert "This is a substitute." in Path("reports/other.html").read_text()
    write_provenance()
    run("report", "--page", "reports/other.html")
    assert "This is a substitute." not in Path("reports/other.html").read_text()
    Path("reports/other.html").unlink()


def test_a_model_without_attention_has_a_report_too(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(make_text(400), model={"kind": "kneser_ney"})
    page = Path("reports/report.html").read_text()
    assert "<h2>Attention</h2>" not in page
    assert "<h2>Difficult and easy text</h2>" in page


def test_a_vocabulary_of_thousands_stays_small(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = torch.Generator().manual_seed(1)
    characters = [chr(0x4E00 + index) for index in range(3000)]
    indices = torch.randint(3000, (9000,), generator=draw).tolist()
    text = "".join(characters) + "".join(characters[index] for index in indices)
    evaluate: dict[str, object] = {"prediction_tokens": 2000}
    make_project(
        text,
        report={"highlighted_tokens": 5000},
        evaluate=evaluate,
        train={"max_steps": 2},
        sample={"prompt": text[:3]},
    )
    assert Path("reports/report.html").stat().st_size < 1.5e6


def test_the_page_shows_the_window_sizes_that_were_used(inside: Path):
    page = re.sub(r"<[^>]+>", "", Path("reports/report.html").read_text())
    assert "windows of 32 characters without context" in page
    assert "in windows that move by 16" in page
    assert "in windows of 8" in page


def test_keys_left_at_their_defaults_are_no_problem(inside: Path):
    document = Path("params.yaml").read_text()
    Path("params.yaml").write_text("report: {}\nsample: {}\n")
    run("report", "--page", "reports/other.html")
    Path("params.yaml").write_text(document)
    assert "<h1>gpt on own</h1>" in Path("reports/other.html").read_text()
    Path("reports/other.html").unlink()


def test_the_declared_sections_are_shown():
    (declared,) = (stage["params"] for name, stage in STAGES.items() if name == "report")
    assert tuple(declared) == SHOWN_SECTIONS


def test_the_page_may_run_its_own_script_and_load_nothing(inside: Path):
    page = Path("reports/report.html").read_text()
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert policy
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert policy[1] == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_names_and_prompts_are_text_in_the_page_and_in_the_model_card(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(make_text(), sample={"prompt": "the "}, download={"name": "<img src=x onerror=alert(1)>"})
    provenance = json.loads(Path("data/raw/corpus.json").read_text()) | {
        "name": "<b>bold</b>",
        "requested": "<b>bold</b>",
    }
    Path("data/raw/corpus.json").write_text(json.dumps(provenance))
    run("report")
    for name in ("report.html", "model_card.md"):
        shown = Path("reports", name).read_text()
        assert "<b>bold" not in shown
        assert "<img" not in shown
        assert "&lt;b>bold" in shown or "&lt;b&gt;bold" in shown


def test_a_small_text_is_announced_and_a_loss_is_shown_once(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(make_text(300), train={"max_steps": 2}, evaluate={"short_block_size": 256})
    page = Path("reports/report.html").read_text()
    assert "<strong>This text is small.</strong> The training text has only" in page
    assert "this model 2" in page or "this model 1" in page or "this model 3" in page
    assert "this model, in windows of" not in page  # which are not shorter than a block


def test_one_character_is_predicted_without_a_loss(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project("a" * 3000, train={"max_steps": 2}, sample={"prompt": "a"})
    metrics = json.loads(Path("reports/metrics.json").read_text())
    assert str(metrics["unigram_val_loss"]) == str(metrics["bigram_val_loss"]) == "0.0"


def test_a_validation_text_that_repeats_the_training_text_is_announced(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(make_text(300) * 10, train={"max_steps": 2})
    assert "of the validation text occurs in the training text" in run("evaluate").stderr
    for name in ("report.html", "model_card.md"):
        assert "The validation text repeats the training text." in Path("reports", name).read_text()


@pytest.mark.parametrize(("value", "shown"), [(437456, "437,456"), (0, "0"), (1.2861884, "1.2862"), (0.0, "0.0000")])
def test_metrics_are_rounded(value, shown):
    assert format_metric(value) == shown
