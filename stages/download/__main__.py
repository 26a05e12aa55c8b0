"""Run the stage: `python -m stages.download`."""

from stages.download.command import command

command()
