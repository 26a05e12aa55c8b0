"""Run the stage: `python -m stages.tokenize`."""

from stages.tokenize.command import command

command()
