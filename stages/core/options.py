"""What the stages' Click commands share: options, and errors that become a line and an exit code."""

import errno
import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from stages.core.errors import FolioError
from stages.core.logs import level, log, peak_memory

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class StageCommand(click.Command):
    """A command whose errors of ours end in one line on standard error; a traceback is for our bugs."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in Click
        super().__init__(*args, **kwargs)
        for flags, loudness, text in (
            (["-q", "--quiet"], logging.WARNING, "Say nothing but warnings and errors."),
            (["-v", "--verbose"], logging.DEBUG, "Say also how long it took and how much memory."),
        ):
            callback = partial(_set_level, loudness)
            self.params.append(click.Option(flags, is_flag=True, expose_value=False, callback=callback, help=text))

    def main(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as in Click
        """Run as a program; leave the code of a failure in the file FOLIO_EXIT_FILE, for who sees DVC's code alone."""
        try:
            return super().main(*args, **kwargs)
        except SystemExit as end:
            if end.code and (path := os.environ.get("FOLIO_EXIT_FILE")):
                Path(path).write_text(f"{end.code}\n", encoding="ascii")
            raise

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - as in Click
        """Run the command; exit with 1 (failed work), 2 (wrong input) or 130 (interrupted) where it fails."""
        start = time.monotonic()
        try:
            result = super().invoke(ctx)
            log.debug("took %.1f s and %.0f MB of memory at most", time.monotonic() - start, peak_memory())
            return result
        except FolioError as error:
            raise Reported(str(error), error.exit_code) from error
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise Reported(f"{error.strerror}: {error.filename or 'while writing'}", 1) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            sys.exit(130)


def _set_level(loudness: int, ctx: click.Context, param: click.Parameter, given: bool) -> None:  # noqa: ARG001
    if given:
        level["now"] = loudness


class Reported(click.ClickException):
    """An error of ours as Click shows it."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance


class OutputPath(click.Path):
    """A path to write to: it must not lead out of the folder that the command runs in, the project's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401
        """Refuse a path outside; a link inside may lead elsewhere, as to a larger disk."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        inside = Path(os.path.normpath(Path.cwd() / path)).is_relative_to(Path.cwd())
        if not inside:
            self.fail(f"'{path}' lies outside the project's folder, {Path.cwd()}; choose a place in it", param, ctx)
        return path


def file_option(flag: str, name: str, default: str | None, text: str) -> Decorator:
    """Make an option for a file to read."""
    return _option(flag, name, default, text, click.Path(path_type=Path, dir_okay=False))


def folder_option(flag: str, name: str, default: str | None, text: str) -> Decorator:
    """Make an option for a folder to read from."""
    return _option(flag, name, default, text, click.Path(path_type=Path, file_okay=False))


def output_file_option(flag: str, name: str, default: str | None, text: str) -> Decorator:
    """Make an option for a file to write, inside the project."""
    return _option(flag, name, default, text, OutputPath(path_type=Path, dir_okay=False))


def output_folder_option(flag: str, name: str, default: str | None, text: str) -> Decorator:
    """Make an option for a folder to write to, inside the project."""
    return _option(flag, name, default, text, OutputPath(path_type=Path, file_okay=False))


def _option(flag: str, name: str, default: str | None, text: str, kind: click.Path) -> Decorator:
    return click.option(flag, name, type=kind, default=default, show_default=default is not None, help=text)


params_option = file_option("--params", "params_path", "params.yaml", "The file of parameters.")
tokens_option = folder_option("--tokens", "tokens", "data/tokens", "The folder of the tensors and the vocabulary.")
model_option = folder_option("--model", "model_folder", "models", "The folder of the trained model.")
corpus_option = file_option("--corpus", "corpus_path", "data/raw/corpus.txt", "The text, UTF-8.")
