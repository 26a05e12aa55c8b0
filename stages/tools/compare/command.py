"""Compare runs on the terminal and as an HTML page."""

import json
from pathlib import Path

import click

from stages.core.files import write_text
from stages.core.options import FolioCommand, output_file_option
from stages.tools.compare.comparison_page import render_comparison
from stages.tools.compare.runs import read_runs
from stages.tools.compare.table import Comparison, compare_runs


@click.command(name="compare", cls=FolioCommand)
@click.argument("revisions", nargs=-1, required=True, metavar="REV…")
@click.option("--seeds-apart", is_flag=True, help="Show runs that differ only in their seeds in separate columns.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of tables.")
@output_file_option("--page", "page_path", None, "The file for an HTML page, with the learning curves.")
def command(revisions: tuple[str, ...], seeds_apart: bool, as_json: bool, page_path: Path | None) -> None:
    """Compare runs: the parameters that differ, and each metric with its difference to the first run.

    REV is an experiment, a branch, a tag, a commit, or `workspace` for the working tree. Runs that differ only in
    train.seed share a column with their mean, unless it is the only one; ~ marks differences that seeds may explain.

    Example: folio compare workspace HEAD wide narrow --page reports/compare.html
    """
    runs = read_runs(list(revisions))
    comparison = compare_runs(runs, group_seeds=not seeds_apart)
    click.echo(json.dumps(comparison.as_dict(), ensure_ascii=False) if as_json else format_tables(comparison))
    if page_path:
        write_text(page_path, render_comparison(comparison, runs))


def format_tables(comparison: Comparison) -> str:
    """Return the tables and notes as text."""
    params = comparison.params.to_string() if len(comparison.params) else "no parameters differ"
    return "\n\n".join([params, comparison.formatted_metrics().to_string(), *comparison.notes])
