"""Run the stage: `python -m stages.train`."""

from stages.train.command import command

command()
