"""Where a stage says what it does: standard error for people, logs/<stage>.log for later, never a hashed file."""

import logging
import resource
from collections.abc import Callable, Iterable, Iterator
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

Item = TypeVar("Item")
log = logging.getLogger("folio")
level = {"now": logging.INFO}  # of what is said: -q and -v change it
console = Console(stderr=True, highlight=False)  # knows NO_COLOR, and whether a person is watching


class ConsoleHandler(logging.Handler):
    """Lines on standard error that get on with a progress bar below them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, warnings in yellow."""
        style = "yellow" if record.levelno >= logging.WARNING else None
        console.print(self.format(record), style=style, markup=False, soft_wrap=True)


def start_log(stage: str) -> None:
    """Send `log` to standard error and, where the folder can be written, to `logs/<stage>.log`."""
    log.setLevel(level["now"])
    log.propagate = False
    for old in log.handlers[:]:
        log.removeHandler(old)
        old.close()
    _add(ConsoleHandler(), f"{stage}: %(message)s")
    try:
        Path("logs").mkdir(exist_ok=True)
        _add(logging.FileHandler(f"logs/{stage}.log"), "%(asctime)s %(levelname)s %(message)s")
    except OSError as error:
        log.warning("no log file (%s); what is said here is said nowhere else", error)


def progress_bar() -> Progress:
    """Make a bar of steps, with a text field `note`, that shows on a terminal only and vanishes when done."""
    shown = console.is_terminal and level["now"] <= logging.INFO
    note = TextColumn("{task.fields[note]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), note, TimeElapsedColumn())
    return Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not shown)


def watched(items: Iterable[Item], tell: Callable[[Item], None]) -> Iterator[Item]:
    """Give the items, and tell of each when it is done with."""
    for item in items:
        yield item
        tell(item)


def peak_memory() -> float:
    """Give the largest resident memory of this process so far, in MB.

    Linux counts to `ru_maxrss` what the process that started this one held; VmHWM is this one's own.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii", errors="replace").splitlines() if status.exists() else []
    own = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return (own[0] if own else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


def _add(handler: logging.Handler, layout: str) -> None:
    handler.setFormatter(logging.Formatter(layout))
    log.addHandler(handler)
