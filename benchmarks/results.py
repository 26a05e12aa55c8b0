"""Write the results of a benchmark, with the conditions that they were measured under."""

import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import click
import pandas as pd
import torch

from stages.core.device import available_cores, has_fast_bfloat16

FOLDER = Path(__file__).parent
MAX_LOAD = 0.7  # load average above which other programs would distort what is measured


def check_load() -> None:
    """Check that no other programs are running.

    Raises:
        ClickException: if the load average is too high.
    """
    load = os.getloadavg()[0]
    if load > MAX_LOAD:
        raise click.ClickException(
            f"the load average of the last minute is {load:.2f}: other programs are running, or have just ended; wait "
            f"until it is below {MAX_LOAD}"
        )


def read_conditions() -> dict[str, str | float | int]:
    """Return the load before a measurement, and the machine and versions that it depends on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "load average before": round(os.getloadavg()[0], 2),
        "processor": next(models, platform.processor() or "unknown"),
        "cores": available_cores(),
        "fast bfloat16": "yes" if has_fast_bfloat16() else "no",
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
    }


def write_results(
    name: str, conditions: dict[str, str | float | int], *tables: pd.DataFrame, formats: Mapping[str, str] | None = None
) -> str:
    """Write tables to benchmarks/NAME.json, and the Markdown made of them to benchmarks/NAME.md; return the Markdown.

    Args:
        name: of the benchmark.
        conditions: from `read_conditions`, before the measurement.
        tables: the results.
        formats: how the numbers of a column are shown in Markdown, such as "{:.1f}".
    """
    rows = [table.to_dict("records") for table in tables]
    (FOLDER / f"{name}.json").write_text(json.dumps({"conditions": conditions, "tables": rows}, indent=1) + "\n")
    described = ", ".join(f"{key} {value}" for key, value in conditions.items())
    formats = formats or {}
    shown_tables = []
    for table in tables:
        shown = {column: table[column].map(shown.format) for column, shown in formats.items() if column in table}
        shown_tables.append(table.assign(**shown).to_markdown(index=False, disable_numparse=bool(shown)))
    markdown = "\n\n".join([*shown_tables, f"Measured with: {described}."])
    (FOLDER / f"{name}.md").write_text(markdown + "\n")
    return markdown
