"""Render a comparison of runs as an HTML page."""

import pandas as pd
from markupsafe import Markup

from stages.report import figures
from stages.report.report_page import load_template
from stages.tools.compare.runs import Run
from stages.tools.compare.table import Comparison


def render_comparison(comparison: Comparison, runs: list[Run]) -> str:
    """Return the tables and the learning curves as HTML."""
    curves = {run.name: run.curve for run in runs if run.curve is not None and len(run.curve)}
    picture = figures.inline(figures.draw_curves(curves), "curves", "validation loss by step") if curves else None
    return load_template("compare.html.j2").render(
        names=[run.name for run in runs],
        params=_html_table(comparison.params) if len(comparison.params) else None,
        metrics=_html_table(comparison.formatted_metrics()),
        notes=comparison.notes,
        picture=picture,
    )


def _html_table(frame: pd.DataFrame) -> Markup:
    return Markup(frame.to_html(border=0, escape=True))
