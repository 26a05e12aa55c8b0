"""Run the stage: `python -m stages.sample`."""

import sys

from stages.cli import folio

folio(["sample", *sys.argv[1:]], prog_name="folio")
