"""Where a command runs: in a project of DVC or not, started by DVC or by hand, in the project or in a copy of it."""

import os
from pathlib import Path

from stages.core.logs import log


def started_by_dvc() -> bool:
    """Return whether DVC runs this stage."""
    return "DVC_STAGE" in os.environ


def project_root() -> Path:
    """Return the project folder: experiments in DVC's queue run in a copy, but leave checkpoints and logs in it."""
    return Path(os.environ.get("DVC_ROOT", "."))


def in_copy() -> bool:
    """Return whether this is an experiment that runs in a copy of the project, in .dvc/tmp or outside the project."""
    root, here = project_root().resolve(), Path.cwd()
    return not here.is_relative_to(root) or ".dvc" in here.relative_to(root).parts


def missing_file_hint() -> str:
    """Return why a file may be missing in a copy, as the end of a message; nothing in the project itself."""
    if not in_copy():
        return ""
    return ". This experiment runs in a copy of the project, which has only the files that git tracks: `git add` them"


def install_command(extra: str) -> str:
    """Return the command that installs an extra: from the clone that this is, or from the published package."""
    return f"pip install -e '.[{extra}]'" if Path("pyproject.toml").exists() else f"pip install 'folio-lm[{extra}]'"


def log_next_steps(stage: str, output: Path, *following: str) -> None:
    """Log what a person who ran a stage by hand may want to run next; DVC runs the next stage itself.

    Args:
        stage: the stage that has finished.
        output: what it wrote.
        following: commands that use its results.
    """
    if started_by_dvc():
        return
    if output.as_posix() in _recorded_by_dvc():
        log.warning(
            "DVC has not recorded this run, and may replace its files: `dvc repro %s` runs the stage and records it, "
            "`dvc checkout --force` restores what was recorded last",
            stage,
        )
    log.info("next: %s", ", ".join(following))


def _recorded_by_dvc() -> set[str]:
    """Return the files and folders that the commands of dvc.yaml name."""
    try:
        return set(Path("dvc.yaml").read_text(encoding="utf-8").split())
    except OSError:
        return set()
