"""The pages in Debian's Chromium, headless: what they ask for, what they show, what the keyboard reaches."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.tools.compare.comparison_page import render_comparison
from stages.tools.compare.table import compare_runs
from tests.report.conftest import reported  # noqa: F401 - a fixture
from tests.tools.compare.test_table import SEEDS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore")]
CHROMIUM = shutil.which("chromium")
SECTIONS = ["loss", "learning", "confidence", "difficulty", "highlighted", "attention", "samples", "provenance"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM:
        pytest.skip("there is no chromium: no page was looked at")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(params=["light", "dark"])
def page(browser: Any, reported: Path, request: pytest.FixtureRequest) -> Iterator[Any]:  # noqa: F811
    opened = browser.new_page(color_scheme=request.param)
    opened.output, opened.asked = [], []
    opened.on("console", lambda message: opened.output.append(message.text))
    opened.on("pageerror", lambda error: opened.output.append(str(error)))
    opened.on("request", lambda asked: opened.asked.append(asked.url))
    opened.goto((reported / "reports/report.html").as_uri())
    yield opened
    opened.close()


def test_the_page_makes_no_requests_and_logs_no_errors(page: Any):
    page.wait_for_timeout(200)
    assert not page.output
    assert len(page.asked) == 1


def test_every_section_has_content(page: Any):
    assert page.eval_on_selector_all("section", "all => all.map(each => each.id)") == SECTIONS
    for section in SECTIONS:
        assert len(page.inner_text(f"#{section}")) > 80, section
    pictures = page.eval_on_selector_all(
        "figure svg", "all => all.map(each => [each.getBoundingClientRect().height, each.getAttribute('aria-label')])"
    )
    assert len(pictures) == 6
    assert all(height > 100 and len(label) > 20 for height, label in pictures)


def test_the_keyboard_reaches_the_coloured_text(page: Any):
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "highlighted-text":
            break
    assert page.evaluate("document.activeElement.id") == "highlighted-text"
    output = [page.inner_text("#about")]
    for key in ("ArrowRight", "End", "Home"):
        page.keyboard.press(key)
        output.append(page.inner_text("#about"))
    assert output[0] == output[3]
    assert len(set(output[:3])) == 3
    assert "Most likely:" in output[0]
    assert output[0].count("%") == 6


def test_pointing_at_a_character_says_the_same(page: Any):
    page.hover("#highlighted-text span:nth-of-type(12)")
    pointed = page.inner_text("#about")
    page.focus("#highlighted-text")
    page.keyboard.press("Home")
    for _ in range(11):
        page.keyboard.press("ArrowRight")
    assert page.inner_text("#about") == pointed


def test_no_serious_accessibility_fault(page: Any):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    assert not [
        (item["id"], item["nodes"][0]["html"][:200]) for item in found if item["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("width", [360, 390, 1200])
def test_nothing_runs_out_of_the_page(browser: Any, reported: Path, width: int):  # noqa: F811
    opened = browser.new_page(viewport={"width": width, "height": 700})
    opened.goto((reported / "reports/report.html").as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    outside = (
        "all => all.filter(each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML)"
    )
    assert not opened.eval_on_selector_all("body *:not(.scroll *, svg *)", outside)
    opened.close()


def test_the_comparison_is_accessible_too(browser: Any, tmp_path: Path):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    (tmp_path / "compare.html").write_text(render_comparison(compare_runs(SEEDS), SEEDS))
    opened = browser.new_page()
    opened.goto((tmp_path / "compare.html").as_uri())
    assert opened.inner_text("h1") == "5 runs compared"
    found = axe.Axe().run(opened).response["violations"]
    assert not [item["id"] for item in found if item["impact"] in ("serious", "critical")]
