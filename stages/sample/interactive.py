"""An interactive loop that asks for prompts and generates text."""

from contextlib import suppress

import click

from stages.core.display import escape_controls, printable
from stages.core.errors import TextError
from stages.generation.prompts import UnknownPolicy, replace_unknown
from stages.generation.text_model import TextModel
from stages.sample.params import SampleParams


def run_interactive(text_model: TextModel, text: str, params: SampleParams, unknown: UnknownPolicy) -> None:
    """Ask for prompts until the end of input (Ctrl-D); Ctrl-C ends the current sample.

    Each sample uses the next seed. An empty line continues the text so far, at first `text`.
    """
    with suppress(ImportError):  # some builds of Python lack it
        import readline  # noqa: F401 - gives `input` history and line editing
    click.echo("Enter a prompt; an empty line continues the text. Ctrl-C ends a sample, Ctrl-D exits.", err=True)
    seed = params.seed
    while True:
        try:
            prompt = input("> ")
        except KeyboardInterrupt:
            click.echo()
            continue
        except EOFError:
            click.echo()
            return
        try:
            text = replace_unknown(prompt, text_model.tokenizer, unknown) if prompt else text
            click.echo(escape_controls(text), nl=False)
            for piece in text_model.stream(text, params, seed):
                text += piece
                click.echo(escape_controls(piece), nl=False)
        except TextError as error:
            click.echo(printable(str(error)), err=True)
        except KeyboardInterrupt:
            pass
        click.echo()
        seed += 1
