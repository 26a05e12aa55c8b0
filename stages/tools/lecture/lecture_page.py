"""The page: prose, numbers, tables and pictures of the notebook, in one file that opens anywhere."""

from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stages.core import files
from stages.tools.lecture import pictures
from stages.tools.lecture.tables import Labelled, labelled

DIGITS = 4


def write(
    folder: Path,
    numbers: dict[str, Any],
    tables: dict[str, Labelled],
    losses: list[float],
    seconds: list[float],
    counting: float,
) -> None:
    """Write index.html, and each table and picture as a file of its own beside it."""
    tables = tables | matrices(numbers)
    drawn = draw(numbers, losses, counting)
    for name, table in tables.items():
        files.write_text(folder / f"{name}.csv", table.frame.to_csv())
    for name, picture in drawn.items():
        files.write_text(folder / f"{name}.svg", picture)
    environment = Environment(
        loader=PackageLoader("stages.tools.lecture", "."), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["short"] = short
    html = environment.get_template("lecture_page.html.j2").render(
        n=numbers,
        tables={name: as_html(table) for name, table in tables.items()},
        pictures={name: Markup(svg[svg.index("<svg") :]) for name, svg in drawn.items()},
        steps=list(zip(numbers["bigram"]["loss_by_steps"].items(), seconds, strict=True)),
        counting=counting,
    )
    files.write_text(folder / "index.html", html)


def matrices(numbers: dict[str, Any]) -> dict[str, Labelled]:
    """Put the notebook's matrices under their labels."""
    entries = {
        "v1_x_0": ("x[0]: eight positions, two channels", numbers["v1"]["x_0"]),
        "v1_xbow_0": ("xbow[0]: each row the mean of the rows up to it", numbers["v1"]["xbow_0"]),
        "v2_weights": ("the weights that average", numbers["v2"]["weights"]),
        "v4_weights_0": ("weights[0] of self-attention: data decides", numbers["v4"]["weights_0"]),
        "toy_b": ("b", numbers["toy"]["b"]),
        "toy_tril_at_b": ("tril(ones) @ b: running sums", numbers["toy"]["tril_at_b"]),
        "toy_averaged": ("rows normalised: running means", numbers["toy"]["averaged"]),
        "toy_softmax_of_large": ("softmax of [5 6 7 8] and [1.1 2.1 3.1 4.1]", numbers["toy"]["softmax_of_large"]),
        "toy_softmax_of_small": ("softmax of two rows between 0 and 1", numbers["toy"]["softmax_of_small"]),
    }
    return {name: labelled(label, pd.DataFrame(rows)) for name, (label, rows) in entries.items()}


def draw(numbers: dict[str, Any], losses: list[float], counting: float) -> dict[str, str]:
    """Draw the page's pictures."""
    scaled, raw = numbers["scaling"]["softmax_scaled_0"], numbers["scaling"]["softmax_raw_0"]
    return {
        "loss": pictures.loss_curve(losses, numbers["bigram"]["expected_initial_loss"], counting),
        "average": pictures.matrix(numbers["v2"]["weights"], "position", "looks at"),
        "attention": pictures.matrix(numbers["v4"]["weights_0"], "position", "looks at"),
        "scaling": pictures.bars(raw, scaled, ("as it is", "divided by sqrt(16)")),
    }


def as_html(table: Labelled) -> Markup:
    """Give a table with its label as caption."""
    frame = table.frame.map(short)
    html = frame.to_html(border=0, header=False, escape=True)
    caption = Markup("<caption>{}</caption>").format(table.label)
    return Markup(html.replace(">", ">" + caption, 1))


def short(value: Any) -> str:  # noqa: ANN401 - a cell
    """Show a number with four digits, and everything else as it is."""
    return f"{value:.{DIGITS}f}" if isinstance(value, float) else str(value)
