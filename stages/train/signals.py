"""Stop after the current step when a signal asks for it; another one, a second later or more, ends the process at once.

Besides SIGTERM and SIGINT: SIGHUP (the terminal was closed), SIGUSR1 (Slurm's warning, with `--signal=USR1@60`) and
SIGXCPU (the limit of CPU time).
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
# Signals within this time come from the same cause: a terminal that is closed sends SIGHUP twice, and a signal to all
# processes of a pipeline is followed by that for the end of the parent.
REPEAT_SECONDS = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU)


def end_with_parent() -> None:
    """Ask Linux to send this process SIGTERM when its parent process ends, so that it does not train on unnoticed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))


class StopRequest:
    """The signal that asked the process to stop, or None."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None


@contextmanager
def catch_stop_signals(ignore_repeats: bool = False) -> Iterator[StopRequest]:
    """Catch the signals, and restore the previous handlers on exit.

    Args:
        ignore_repeats: whether later signals are ignored; needed if several processes stop together, which may take
            longer.
    """
    request = StopRequest()
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    # nohup ignores SIGHUP. A shell ignores SIGINT for background jobs, and the container's entrypoint lets DVC ignore
    # SIGTERM, but whoever sends these two means the trainer.
    always = (signal.SIGTERM, signal.SIGINT)
    caught = [number for number in SIGNALS if number in always or previous[number] != signal.SIG_IGN]

    first_at = 0.0

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal first_at
        if request.signal is None:
            request.signal, first_at = signal.Signals(number), time.monotonic()
        elif not ignore_repeats and time.monotonic() - first_at >= REPEAT_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in caught:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        for number in caught:
            signal.signal(number, previous[number])
