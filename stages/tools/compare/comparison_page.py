"""The comparison as a page that opens anywhere."""

import pandas as pd
from markupsafe import Markup

from stages.report import figures
from stages.report.page import template
from stages.tools.compare.runs import Run
from stages.tools.compare.table import Comparison


def as_page(compared: Comparison, runs: list[Run]) -> str:
    """Write the tables and the learning curves as HTML."""
    curves = {run.name: run.curve for run in runs if run.curve is not None and len(run.curve)}
    picture = figures.inline(figures.compared(curves), "curves", "validation loss by step") if curves else None
    return template("compare.html.j2").render(
        names=[run.name for run in runs],
        params=as_table(compared.params) if len(compared.params) else None,
        metrics=as_table(compared.shown_metrics()),
        notes=compared.notes,
        picture=picture,
    )


def as_table(frame: pd.DataFrame) -> Markup:
    """Give a table whose cells are escaped."""
    return Markup(frame.to_html(border=0, escape=True))
