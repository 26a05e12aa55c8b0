"""The `folio` command: a group that imports a command's module only when that command is asked for.

So `folio download` never waits for torch. `dvc.yaml` runs the stages' modules themselves (`python -m stages.train`):
no stage depends on this list, and the code beside `dvc.yaml` is what runs, in a copy for an experiment as well.
"""

from importlib import import_module

import click

COMMANDS: dict[str, tuple[str, str]] = {
    "download": ("stages.download.command", "Fetch the text and write down where it came from."),
    "tokenize": ("stages.tokenize.command", "Turn the text into tensors of ids and a vocabulary."),
    "train": ("stages.train.command", "Train the model that params.yaml describes."),
    "evaluate": ("stages.evaluate.command", "Measure the model on the validation split."),
    "sample": ("stages.sample.command", "Let the model write."),
    "report": ("stages.report.command", "Show on a page what the model learned."),
    "compare": (
        "stages.tools.compare.command",
        "Put runs side by side: what differs, and whether seed noise explains it.",
    ),
    "score": ("stages.tools.score", "Say how well the model knows a text."),
    "export": ("stages.tools.export.command", "Write the model so that other tools open it."),
    "lecture": ("stages.tools.lecture.command", 'Do what the notebook of "Let\'s build GPT" does, and explain it.'),
}


class LazyGroup(click.Group):
    """Commands by name, imported when used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Name the commands in the order in which they run."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module and give the command, or None for a name that is not known."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="folio")
def folio() -> None:
    """Turn any text into a trained, evaluated and sampled character-level language model.

    `dvc repro` runs every stage that has something to do; each can be run alone as well.

    Example: folio sample --prompt "ROMEO:"
    """


if __name__ == "__main__":
    folio(prog_name="folio")
