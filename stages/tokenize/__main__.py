"""Run the stage: `python -m stages.tokenize`."""

import sys

from stages.cli import folio

folio(["tokenize", *sys.argv[1:]], prog_name="folio")
