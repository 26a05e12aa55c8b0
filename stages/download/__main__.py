"""Run the stage: `python -m stages.download`."""

import sys

from stages.cli import folio

folio(["download", *sys.argv[1:]], prog_name="folio")
