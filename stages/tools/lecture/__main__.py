"""Run the tool: `python -m stages.tools.lecture`."""

from stages.tools.lecture.command import command

command()
