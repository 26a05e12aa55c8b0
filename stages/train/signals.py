"""Stop after the current step when a signal asks for it; a second signal ends the process at once.

Besides SIGTERM and SIGINT: SIGHUP (the terminal was closed), SIGUSR1 (Slurm's warning, with `--signal=USR1@60`) and
SIGXCPU (the limit of CPU time).
"""

import ctypes
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
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
        ignore_repeats: whether a second signal is ignored; needed if several processes stop together, because each may
            receive the signal twice.
    """
    request = StopRequest()
    previous = {number: signal.getsignal(number) for number in SIGNALS}
    # nohup ignores SIGHUP. A shell ignores SIGINT for background jobs, and the container's entrypoint lets DVC ignore
    # SIGTERM, but whoever sends these two means the trainer.
    always = (signal.SIGTERM, signal.SIGINT)
    caught = [number for number in SIGNALS if number in always or previous[number] != signal.SIG_IGN]

    def handle(number: int, _frame: FrameType | None) -> None:
        request.signal = signal.Signals(number)
        for other in () if ignore_repeats else caught:
            signal.signal(other, signal.SIG_DFL)

    for number in caught:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        for number in caught:
            signal.signal(number, previous[number])
