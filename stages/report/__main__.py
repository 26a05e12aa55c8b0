"""Run the stage: `python -m stages.report`."""

from stages.report.command import command

command()
