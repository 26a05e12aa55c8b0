"""Log to standard error and to logs/<stage>.log, and show progress on a terminal."""

import logging
import resource
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from stages.core.display import printable

Item = TypeVar("Item")
log = logging.getLogger("folio")
log.setLevel(logging.INFO)  # -q and -v change it
console = Console(stderr=True, highlight=False)  # respects NO_COLOR and detects a terminal


class PrintableFormatter(logging.Formatter):
    """Format log lines without control characters and without secrets in addresses."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        return printable(super().format(record))


class ConsoleHandler(logging.Handler):
    """Write log lines to standard error without breaking the progress bar below them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record; warnings and errors are yellow."""
        style = "yellow" if record.levelno >= logging.WARNING else None
        console.print(self.format(record), style=style, markup=False, soft_wrap=True)


class LogFileHandler(logging.FileHandler):
    """Write log lines to a file; if that fails, such as on a full disk, say so once and write no more."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as in `logging`
        """Stop writing to the file."""
        error = sys.exception()
        log.removeHandler(self)
        with suppress(OSError):  # it still holds the line
            self.close()
        log.warning("cannot write to %s (%s); logging to standard error only", self.baseFilename, error)


def start_log(stage: str) -> None:
    """Send `log` to standard error and, in a project folder that is writable, to `logs/<stage>.log`."""
    log.propagate = False
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()
    _add_handler(ConsoleHandler(), f"{stage}: %(message)s")
    if not Path("params.yaml").exists():
        return
    try:
        Path("logs").mkdir(exist_ok=True)
        _add_handler(LogFileHandler(f"logs/{stage}.log", encoding="utf-8"), "%(asctime)s %(levelname)s %(message)s")
    except OSError as error:
        log.warning("cannot write the log file (%s); logging to standard error only", error)


def progress_bar() -> Progress:
    """Return a progress bar with a text field `note`; it is shown on a terminal only and disappears when done."""
    visible = console.is_terminal and log.isEnabledFor(logging.INFO)
    note = TextColumn("{task.fields[note]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), note, TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not visible)


def track_progress(items: Iterable[Item], callback: Callable[[Item], None]) -> Iterator[Item]:
    """Yield the items, and call `callback` with each one after the consumer has processed it."""
    for item in items:
        yield item
        callback(item)


def peak_memory() -> float:
    """Return the largest resident memory of this process so far, in MB.

    Linux includes the parent's memory in `ru_maxrss`; VmHWM is that of this process alone. `ru_maxrss` is in KiB, on
    macOS in bytes.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii", errors="replace").splitlines() if status.exists() else []
    high_water_marks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    if high_water_marks:
        return high_water_marks[0] / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)


def _add_handler(handler: logging.Handler, layout: str) -> None:
    handler.setFormatter(PrintableFormatter(layout))
    log.addHandler(handler)
