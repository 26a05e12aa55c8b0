"""Where trackers write files."""

import os
from pathlib import Path


def logs_folder() -> Path:
    """Return the logs folder of the project; queued experiments run in a copy, but use the real one (DVC_ROOT)."""
    return Path(os.environ.get("DVC_ROOT", ".")) / "logs"
