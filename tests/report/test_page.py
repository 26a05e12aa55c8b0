import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from ruamel.yaml import YAML

from stages.cli import folio
from tests.conftest import make_text
from tests.report.conftest import describe, make_project
from tests.small_project import run


class Reader(HTMLParser):
    """Collects what a page shows and what it asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics: list[tuple[str, str]] = []
        self.asked: list[str] = []
        self.identifiers: list[str] = []
        self._metric: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "data-metric":
                self._metric = value
            if name == "id":
                self.identifiers.append(str(value))
            if name in ("src", "href", "xlink:href", "action") and not str(value).startswith(("#", "data:")):
                self.asked.append(f"{tag} {value}")

    def handle_data(self, data: str) -> None:
        if self._metric:
            self.metrics.append((self._metric, data))
            self._metric = None


def test_every_number_is_that_of_the_json_and_every_metric_is_shown(inside: Path):
    metrics = json.loads(Path("reports/metrics.json").read_text())
    reader = Reader()
    reader.feed(Path("reports/report.html").read_text())
    assert {name for name, _ in reader.metrics} == set(metrics)
    assert all(str(metrics[name]) == shown for name, shown in reader.metrics)
    card = Path("reports/model_card.md").read_text()
    assert all(f"| {name} | {value} |" in card for name, value in metrics.items())


def test_nothing_is_asked_of_anywhere_and_identifiers_are_unique(inside: Path):
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


def test_the_same_again_is_the_same_file(inside: Path):
    files = ["reports/report.html", "reports/model_card.md", *map(str, Path("reports/images").iterdir())]
    before = {name: Path(name).read_bytes() for name in files}
    run("report")
    assert {name: Path(name).read_bytes() for name in files} == before


def test_the_model_is_described_as_it_is_whatever_the_file_says_by_now(inside: Path):
    document = Path("params.yaml").read_text()
    Path("params.yaml").write_text(document.replace("kind: gpt ", "kind: bigram "))
    run("report", "--page", "reports/other.html")
    Path("params.yaml").write_text(document)
    assert "<h1>gpt on own</h1>" in Path("reports/other.html").read_text()
    Path("reports/other.html").unlink()


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("é§", "report.prompt is 'é§': unknown character '§'"),
        ("", "report.prompt is ''"),
        ("a" * 33, "report.prompt is 'aaa"),
    ],
)
def test_a_prompt_that_cannot_be_used_is_named_with_its_key(inside: Path, prompt: str, message: str):
    document = Path("params.yaml").read_text()
    changed = YAML().load(document)
    changed["report"]["prompt"] = prompt
    YAML().dump(changed, Path("params.yaml"))
    result = CliRunner().invoke(folio, ["report"])
    Path("params.yaml").write_text(document)
    assert result.exit_code == 2
    assert message in result.output


def test_what_is_missing_or_damaged_is_one_line(inside: Path):
    for option in ("--samples", "--metrics"):
        result = CliRunner().invoke(folio, ["report", option, "nosuch"])
        assert result.exit_code == 2
        assert "nosuch does not exist; `dvc repro" in result.output
    Path("empty.json").write_text("{}")
    assert "empty.json has no val_loss" in CliRunner().invoke(folio, ["report", "--metrics", "empty.json"]).output


def test_a_substitute_is_announced(inside: Path):
    describe("tinyshakespeare")
    run("report", "--page", "reports/other.html")
    assert "This is a substitute." in Path("reports/other.html").read_text()
    describe()
    run("report", "--page", "reports/other.html")
    assert "This is a substitute." not in Path("reports/other.html").read_text()
    Path("reports/other.html").unlink()


def test_a_rung_without_attention_has_a_page_too(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_project(make_text(400), model={"kind": "kneser_ney"})
    page = Path("reports/report.html").read_text()
    assert "What the heads look at" not in page
    assert "What is hard" in page


def test_a_vocabulary_of_thousands_stays_small(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = torch.Generator().manual_seed(1)
    signs = [chr(0x4E00 + each) for each in range(3000)]
    text = "".join(signs) + "".join(signs[each] for each in torch.randint(3000, (9000,), generator=draw).tolist())
    report: dict[str, object] = {"characters": 5000, "statistics": 2000}
    make_project(text, report=report, train={"max_steps": 2}, sample={"prompt": text[:3]})
    assert Path("reports/report.html").stat().st_size < 1.5e6
