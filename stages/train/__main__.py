"""Run the stage: `python -m stages.train`."""

import sys

from stages.cli import folio

folio(["train", *sys.argv[1:]], prog_name="folio")
