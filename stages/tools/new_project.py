"""Create a project outside a clone of Folio's repository."""

import shlex
import shutil
import subprocess
from pathlib import Path

import click
from ruamel.yaml import YAML

from stages.core.display import printable
from stages.core.errors import InputError, WorkError
from stages.core.options import FolioCommand

PACKAGE = Path(__file__).parents[1]
FILES = Path(__file__).with_name("template_files.txt")
# Not the one of a clone, which may name its storage.
DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n"


@click.command(name="new", cls=FolioCommand)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def command(folder: Path) -> None:
    """Create a project in FOLDER: the pipeline with its code and parameters, and a place for your texts.

    FOLDER must be new or empty. It becomes a git repository, unless it is in one. The parameters are the defaults, or,
    if Folio runs from a clone, those of its last commit.

    Example: folio new my-model
    """
    create_project(folder)
    click.echo(
        printable(
            f"created {folder}\n"
            f'next: cd -- {shlex.quote(str(folder))} && git add . && git commit -m "New project" && dvc repro\n'
            f"to train on your own texts: {folder / 'data/own/README.md'}"
        )
    )


def create_project(folder: Path) -> None:
    """Copy the code and the files of a project to a folder, and make it a git repository, which DVC needs.

    Raises:
        InputError: if the folder is not empty, or is in the package.
        WorkError: if git is not installed or fails, or a file cannot be read or written; nothing is left behind then.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty; name a new or an empty folder")
    if folder.resolve().is_relative_to(PACKAGE.resolve()):
        raise InputError(f"{folder} is in the code of Folio; name a folder elsewhere")
    if not shutil.which("git"):
        raise WorkError("git is not installed, and DVC needs it; install it, then try again")
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _copy_files(folder)
        if not _in_repository(folder):
            subprocess.run(["git", "init", "-q"], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:  # shutil.Error is an OSError
        shutil.rmtree(folder, ignore_errors=True)
        if not is_new:
            folder.mkdir(exist_ok=True)
        raise WorkError(f"{folder} cannot be created: {_reason(error)}") from error


def read_template(name: str) -> str:
    """Return a file that a project gets, from the package or, in a clone, from beside it.

    Parameters are those of the last commit of the clone: `dvc exp run` changes those of the working tree.
    """
    installed, root = PACKAGE / "template" / name, PACKAGE.parent
    if installed.exists():
        return installed.read_text(encoding="utf-8")
    if name == "params.yaml":
        command = ["git", "show", f"HEAD:./{name}"]
        committed = subprocess.run(command, cwd=root, capture_output=True, encoding="utf-8", check=False)
        if committed.returncode == 0:
            return committed.stdout
    return (root / name).read_text(encoding="utf-8")


def _copy_files(folder: Path) -> None:
    shutil.copytree(PACKAGE, folder / "stages", ignore=shutil.ignore_patterns("__pycache__", "template"))
    for name in FILES.read_text(encoding="utf-8").split():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(DVC_CONFIG if name == ".dvc/config" else read_template(name), encoding="utf-8")
    _ignore_outputs(folder)


def _ignore_outputs(folder: Path) -> None:
    """Write .gitignore files for what DVC stores, which DVC would write in its first run.

    Otherwise `git add .` after a stage that was run by hand would add its outputs, and DVC refuse to store them.
    """
    pipeline = YAML(typ="safe").load(folder / "dvc.yaml")
    for out in (out for stage in pipeline["stages"].values() for out in stage.get("outs", ())):
        name, options = (out, {}) if isinstance(out, str) else next(iter(out.items()))
        path = folder / name
        ignored = path.with_name(".gitignore")
        before = ignored.read_text(encoding="utf-8") if ignored.exists() else ""
        if options.get("cache", True) and f"/{path.name}\n" not in before:
            path.parent.mkdir(parents=True, exist_ok=True)
            ignored.write_text(f"{before}/{path.name}\n", encoding="utf-8")


def _in_repository(folder: Path) -> bool:
    """Return whether git would track the files of a folder."""
    inside = subprocess.run(
        ["git", "rev-parse", "--is-inside-work-tree"], cwd=folder, capture_output=True, text=True, check=False
    )
    ignored = subprocess.run(["git", "check-ignore", "-q", "."], cwd=folder, capture_output=True, check=False)
    return inside.stdout.strip() == "true" and ignored.returncode != 0


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    """Return in one line what went wrong."""
    if isinstance(error, subprocess.CalledProcessError):
        return f"git init failed: {error.stderr.strip()}"
    if isinstance(error, shutil.Error):
        return str(error.args[0][0][-1])  # of the first file
    return f"{error.strerror}: {error.filename}"
