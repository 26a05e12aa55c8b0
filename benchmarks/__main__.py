"""List the benchmarks, or run some of them: `python -m benchmarks [NAME …]`.

Each runs in a process of its own, and prints its results; most also write them to benchmarks/. Run
`python -m benchmarks.NAME --help` for the options of those that have some.
"""

import ast
import subprocess
import sys

import click

from benchmarks.results import FOLDER, check_load

NAMES = (
    "pipeline", "step", "busy", "generation", "race", "ladder", "any_text", "other_settings", "scaling",
    "checkpointing", "report", "bigram", "container", "gpu", "compressors",
)  # fmt: skip


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(NAMES), metavar="[NAME]...")
def main(names: tuple[str, ...]) -> None:
    """Run the named benchmarks, one after the other; without names, list them."""
    if names:
        check_load()
    for name in names or NAMES:
        docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))) or ""
        click.echo(f"{name:14} {docstring.splitlines()[0].partition(': `')[0].rstrip('.')}")
        if not names:
            continue
        if code := subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            raise click.ClickException(f"benchmarks.{name} ended with exit code {code}")


if __name__ == "__main__":
    main()
