"""Run the stage: `python -m stages.evaluate`."""

from stages.evaluate.command import command

command()
