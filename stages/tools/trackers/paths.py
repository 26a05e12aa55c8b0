"""Where trackers write files."""

from pathlib import Path

from stages.core.project import project_root


def logs_folder() -> Path:
    """Return the logs folder of the project."""
    return project_root() / "logs"
