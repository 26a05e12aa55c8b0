"""Handle SIGTERM and SIGINT by stopping after the current step; a second signal ends the process at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


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

    def handle(number: int, _frame: FrameType | None) -> None:
        request.signal = signal.Signals(number)
        for other in () if ignore_repeats else SIGNALS:
            signal.signal(other, signal.SIG_DFL)

    for number in SIGNALS:
        signal.signal(number, handle)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
