"""Run the stage: `python -m stages.sample`."""

from stages.sample.command import command

command()
