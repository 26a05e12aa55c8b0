"""The `folio` command, a group that imports a command only when it is used.

Commands that do not need PyTorch start quickly this way. `dvc.yaml` runs the stages as modules instead (`python -m
stages.train`), so that a copy of the project made for an experiment runs its own code.
"""

import sys
from importlib import import_module

import click

from stages.core.options import ExitCodeCommand

COMMANDS: dict[str, tuple[str, str]] = {
    "download": ("stages.download.command", "Fetch the text and record where it came from."),
    "tokenize": ("stages.tokenize.command", "Convert the text to tokens."),
    "train": ("stages.train.command", "Train the model that params.yaml describes."),
    "evaluate": ("stages.evaluate.command", "Evaluate the model on the validation text."),
    "sample": ("stages.sample.command", "Generate text."),
    "report": ("stages.report.command", "Write an HTML report and a model card."),
    "compare": ("stages.tools.compare.command", "Compare runs: what differs, and whether seed noise explains it."),
    "score": ("stages.tools.score", "Print the bits per character of a text under the model."),
    "new": ("stages.tools.new_project", "Create a project in a new folder."),
    "export": ("stages.tools.export.command", "Export the model to other libraries."),
}


class LazyGroup(ExitCodeCommand, click.Group):
    """A group that knows its commands by name and imports them when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names of the commands, the stages in pipeline order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import and return a command, or return None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        try:
            command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        except KeyboardInterrupt:  # importing PyTorch takes a second
            click.echo("interrupted", err=True)
            sys.exit(130)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="folio-lm")
def folio() -> None:
    """Train a language model on any text, evaluate it, sample from it and report on it.

    `dvc repro` runs every stage whose inputs have changed; each stage can also be run alone.

    Example: folio sample --prompt "ROMEO:"
    """


if __name__ == "__main__":
    folio(prog_name="folio")
