"""Options that commands share, and the Click command class that reports errors."""

import errno
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from stages.core.display import printable
from stages.core.errors import FolioError
from stages.core.logs import log, peak_memory
from stages.core.params import check_file

# Full, failing and protected disks, missing files, and names that cannot be names of files.
REPORTED_ERRORS = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENOENT, errno.EEXIST, errno.EBUSY,
}  # fmt: skip
# What PyTorch says, on the CPU and on a GPU, if it gets no memory.
NO_MEMORY = re.compile(r"allocate memory|out of memory|Storage size calculation overflowed", re.IGNORECASE)
KILLED = 137  # 128 + SIGKILL, which Linux also sends to a process if there is no memory left
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class ExitCodeCommand(click.Command):
    """A command that can be run as a program."""

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as in Click
        """Run as a program; write the exit code to the file FOLIO_EXIT_FILE, because DVC hides it.

        The file must be there and empty. It is empty again after success, and says KILLED while the command runs.
        """
        prepare_streams()
        path = Path(os.environ.get("FOLIO_EXIT_FILE", ""))
        if not path.is_file() or path.stat().st_size:
            return super().main(*args, **kwargs)
        code: Any = 1  # if an exception ends the program
        path.write_text(f"{KILLED}\n", encoding="ascii")
        try:
            return super().main(*args, **kwargs)
        except SystemExit as exit_:
            code = exit_.code
            raise
        finally:
            path.write_text(f"{code}\n" if code else "", encoding="ascii")


class FolioCommand(ExitCodeCommand):
    """A command that reports a FolioError as one line on standard error; other exceptions keep their traceback."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in Click
        super().__init__(*args, **kwargs)
        for flags, log_level, text in (
            (["-q", "--quiet"], logging.WARNING, "Print only warnings and errors."),
            (["-v", "--verbose"], logging.DEBUG, "Also print the time and memory used."),
        ):
            callback = partial(_set_level, log_level)
            self.params.append(click.Option(flags, is_flag=True, expose_value=False, callback=callback, help=text))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; an error shows it without control characters."""
        try:
            return super().parse_args(ctx, args)
        except click.ClickException as error:
            error.message = printable(error.message)  # type: ignore[misc]  # the kind of error and its hint remain
            raise

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as in Click
        """Run the command; on failure, exit with 1 (failed work), 2 (invalid input) or 128 + a signal."""
        start = time.monotonic()
        params_path = ctx.params.get("params_path")
        try:
            if params_path and params_path.exists():
                check_file(params_path)
            result = super().invoke(ctx)
            log.debug("took %.1f s and %.0f MB of memory at most", time.monotonic() - start, peak_memory())
            return result
        except FolioError as error:
            raise ReportedError(str(error), error.exit_code) from error
        except OSError as error:
            if error.errno not in REPORTED_ERRORS:
                raise
            raise ReportedError(f"{error.strerror}: {error.filename or 'while writing'}", 1) from error
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not NO_MEMORY.search(str(error)):
                raise
            reason = str(error).partition("\n")[0]
            raise ReportedError(
                f"not enough memory ({reason}); close other programs, or reduce a size in params.yaml, such as "
                "train.batch_size",
                1,
            ) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)


def prepare_streams() -> None:
    """Make standard input and output usable if they are closed, or cannot show every character.

    A terminal shows what its encoding lacks as backslash escapes. A file gets UTF-8, unless PYTHONIOENCODING says
    otherwise.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - until the end
        elif mode == "r" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="surrogateescape")  # a line that is not in the encoding must not end the program
        elif hasattr(stream, "reconfigure"):
            keeps_encoding = stream.isatty() or "PYTHONIOENCODING" in os.environ
            stream.reconfigure(encoding=None if keeps_encoding else "utf-8", errors="backslashreplace")


def _set_level(log_level: int, ctx: click.Context, param: click.Parameter, is_set: bool) -> None:  # noqa: ARG001
    if is_set:
        log.setLevel(log_level)


class ReportedError(click.ClickException):
    """A FolioError in the form that Click prints."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(printable(message))
        self.exit_code = exit_code  # type: ignore[misc]  # Click reads it from the instance


PROJECT_FILES = {"params.yaml", "dvc.yaml", "dvc.lock", "pyproject.toml"}
PROTECTED_FOLDERS = ("data", "models", "stages", "docker", "tests", ".git", ".dvc")


class OutputPath(click.Path):
    """A path to write to, inside the working directory (the project), but not one of its files.

    Args:
        protected: folders of the project that must not be written to.
    """

    def __init__(self, dir_okay: bool = True, file_okay: bool = True, protected: Sequence[str] = ()) -> None:
        super().__init__(dir_okay=dir_okay, file_okay=file_okay, path_type=Path)
        self.protected = protected

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Reject a path outside the project, also one that a linked folder leads to; a linked file is replaced.

        Reject also files of the project and of the protected folders.
        """
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if not str(value):  # Path takes it for the project folder
            self.fail("the path is empty; name one, or leave out the option", param, ctx)
        try:
            folder, project = (path.parent if self.file_okay else path).resolve(), Path.cwd().resolve()
            inside = folder.is_relative_to(project)
        except (OSError, RuntimeError) as error:  # links in a circle
            self.fail(f"'{path}' cannot be used: {error}", param, ctx)
        if not inside or path.name == "..":
            self.fail(f"'{path}' is outside the project folder {Path.cwd()}; choose a path inside it", param, ctx)
        if (folder == project and path.name in PROJECT_FILES) or any(
            folder.is_relative_to(project / name) for name in self.protected
        ):
            self.fail(f"'{path}' belongs to the project itself; choose a new file, for example in reports/", param, ctx)
        return path


def file_option(flag: str, name: str, default: str | None, text: str) -> Decorator:
    """Return an option for a file to read."""
    return _option(flag, name, default, text, click.Path(path_type=Path, dir_okay=False))


def folder_option(flag: str, name: str, default: str | None, text: str) -> Decorator:
    """Return an option for a folder to read."""
    return _option(flag, name, default, text, click.Path(path_type=Path, file_okay=False))


def output_file_option(flag: str, name: str, default: str | None, text: str) -> Decorator:
    """Return an option for a file to write, inside the project, but not in its protected folders."""
    return _option(flag, name, default, text, OutputPath(dir_okay=False, protected=PROTECTED_FOLDERS))


def output_folder_option(flag: str, name: str, default: str | None, text: str) -> Decorator:
    """Return an option for a folder to write, inside the project."""
    return _option(flag, name, default, text, OutputPath(file_okay=False))


def _option(flag: str, name: str, default: str | None, text: str, kind: click.Path) -> Decorator:
    return click.option(flag, name, type=kind, default=default, show_default=default is not None, help=text)


params_option = file_option("--params", "params_path", "params.yaml", "The parameter file.")
tokens_option = folder_option("--tokens", "tokens_folder", "data/tokens", "The folder of token files.")
model_option = folder_option("--model", "model_folder", "models", "The folder of the trained model.")
corpus_option = file_option("--corpus", "corpus_path", "data/raw/corpus.txt", "The text, in UTF-8.")
