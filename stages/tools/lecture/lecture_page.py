"""Render the lecture page: the notebook's results with explanations, tables and figures, in one HTML file."""

from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stages.core.files import write_text
from stages.tools.lecture.labelled_tables import LabelledTable, label_table
from stages.tools.lecture.lecture_figures import draw_bars, draw_loss_curve, draw_matrix

DIGITS = 4


def write_page(
    folder: Path,
    numbers: dict[str, Any],
    tables: dict[str, LabelledTable],
    losses: list[float],
    seconds: list[float],
    bigram_val_loss: float,
) -> None:
    """Write index.html, and each table and figure as a file beside it."""
    tables = tables | make_matrices(numbers)
    figures = draw_figures(numbers, losses, bigram_val_loss)
    for name, table in tables.items():
        write_text(folder / f"{name}.csv", table.frame.to_csv())
    for name, picture in figures.items():
        write_text(folder / f"{name}.svg", picture)
    environment = Environment(
        loader=PackageLoader("stages.tools.lecture", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["short"] = format_cell
    html = environment.get_template("lecture_page.html.j2").render(
        n=numbers,
        tables={name: as_html(table) for name, table in tables.items()},
        pictures={name: Markup(svg[svg.index("<svg") :]) for name, svg in figures.items()},
        steps=list(zip(numbers["bigram"]["loss_by_steps"].items(), seconds, strict=True)),
        bigram_val_loss=bigram_val_loss,
    )
    write_text(folder / "index.html", html)


def make_matrices(numbers: dict[str, Any]) -> dict[str, LabelledTable]:
    """Return the matrices of the notebook as tables."""
    entries = {
        "v1_x_0": ("x[0]: eight positions, two channels", numbers["v1"]["x_0"]),
        "v1_xbow_0": ("xbow[0]: each row the mean of the rows up to it", numbers["v1"]["xbow_0"]),
        "v2_weights": ("the weights that average", numbers["v2"]["weights"]),
        "v4_weights_0": ("weights[0] of self-attention", numbers["v4"]["weights_0"]),
        "toy_b": ("b", numbers["toy"]["b"]),
        "toy_tril_at_b": ("tril(ones) @ b: running sums", numbers["toy"]["tril_at_b"]),
        "toy_averaged": ("rows normalized: running means", numbers["toy"]["averaged"]),
        "toy_softmax_of_large": ("softmax of [5 6 7 8] and [1.1 2.1 3.1 4.1]", numbers["toy"]["softmax_of_large"]),
        "toy_softmax_of_small": ("softmax of two rows between 0 and 1", numbers["toy"]["softmax_of_small"]),
    }
    return {name: label_table(label, pd.DataFrame(rows)) for name, (label, rows) in entries.items()}


def draw_figures(numbers: dict[str, Any], losses: list[float], bigram_val_loss: float) -> dict[str, str]:
    """Return the figures of the page as SVG, by name."""
    scaled, raw = numbers["scaling"]["softmax_scaled_0"], numbers["scaling"]["softmax_raw_0"]
    return {
        "loss": draw_loss_curve(losses, numbers["bigram"]["expected_initial_loss"], bigram_val_loss),
        "average": draw_matrix(numbers["v2"]["weights"], "position", "attends to"),
        "attention": draw_matrix(numbers["v4"]["weights_0"], "position", "attends to"),
        "scaling": draw_bars(raw, scaled, ("unscaled", "divided by sqrt(16)")),
    }


def as_html(table: LabelledTable) -> Markup:
    """Return a table as HTML with its label as caption."""
    frame = table.frame.map(format_cell)
    html = frame.to_html(border=0, header=False, escape=True)
    caption = Markup("<caption>{}</caption>").format(table.label)
    return Markup(html.replace(">", ">" + caption, 1))


def format_cell(value: Any) -> str:  # noqa: ANN401 - a cell
    """Return a number with four decimals, and any other value unchanged."""
    return f"{value:.{DIGITS}f}" if isinstance(value, float) else str(value)
