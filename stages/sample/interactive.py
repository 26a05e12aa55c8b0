"""A loop at the terminal: a prompt, what the model makes of it, and again."""

import readline  # noqa: F401 - gives `input` its history and editing

import click

from stages.core.errors import TextError
from stages.generation.prompts import Unknown, known_text
from stages.generation.sampling import Choice
from stages.generation.text_model import Writer
from stages.sample.params import SampleParams


def talk(writer: Writer, params: SampleParams, choice: Choice, unknown: Unknown) -> None:
    """Ask for prompts until the end of input (Ctrl-D); Ctrl-C ends a sample, not the loop.

    Each sample takes the next seed. An empty line goes on from what stands there so far.
    """
    click.echo("A prompt, then Enter; an empty line goes on. Ctrl-C ends a sample, Ctrl-D the program.", err=True)
    text, seed = params.prompt, params.seed
    while True:
        try:
            given = input("> ")
        except KeyboardInterrupt:
            click.echo()
            continue
        except EOFError:
            click.echo()
            return
        try:
            text = known_text(given, writer.tokenizer, unknown) if given else text
            click.echo(text, nl=False)
            for piece in writer.stream(text, params.length, choice, seed, params.stop):
                text += piece
                click.echo(piece, nl=False)
        except TextError as error:
            click.echo(str(error), err=True)
        except KeyboardInterrupt:
            pass
        click.echo()
        seed += 1
