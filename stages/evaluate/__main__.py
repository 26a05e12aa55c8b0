"""Run the stage: `python -m stages.evaluate`."""

import sys

from stages.cli import folio

folio(["evaluate", *sys.argv[1:]], prog_name="folio")
