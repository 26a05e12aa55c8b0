"""Run the stage: `python -m stages.report`."""

import sys

from stages.cli import folio

folio(["report", *sys.argv[1:]], prog_name="folio")
