"""compare: runs side by side, on the terminal and as a page."""

import json
from pathlib import Path

import click

from stages.core import files
from stages.core.options import StageCommand, output_file_option
from stages.tools.compare.comparison_page import as_page
from stages.tools.compare.runs import read_runs
from stages.tools.compare.table import Comparison, compare


@click.command(name="compare", cls=StageCommand)
@click.argument("revisions", nargs=-1, required=True, metavar="REV…")
@click.option(
    "--seeds-apart", is_flag=True, help="A column for every run; else those that differ in seeds alone share one."
)
@click.option("--json", "as_json", is_flag=True, help="One document of JSON instead of the table.")
@output_file_option("--page", "page", None, "Also a page, with the learning curves, in this file.")
def command(revisions: tuple[str, ...], seeds_apart: bool, as_json: bool, page: Path | None) -> None:
    """Put runs side by side: the parameters that differ, and every metric beside that of the first run.

    REV is an experiment, a branch, a tag, a commit, or `workspace` for what lies here. Runs that differ in train.seed
    alone are one column, their mean; then ~ marks a difference that is below twice its standard error.

    Example: folio compare workspace HEAD wide narrow --page reports/compare.html
    """
    runs = read_runs(list(revisions))
    compared = compare(runs, together=not seeds_apart)
    click.echo(json.dumps(compared.as_dict(), ensure_ascii=False) if as_json else shown(compared))
    if page:
        files.write_text(page, as_page(compared, runs))


def shown(compared: Comparison) -> str:
    """Give the tables as text."""
    parts = [compared.params.to_string() if len(compared.params) else "no parameter differs"]
    parts.append(compared.shown_metrics().to_string())
    return "\n\n".join([*parts, *compared.notes])
