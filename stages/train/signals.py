"""SIGTERM and SIGINT as a wish to stop after the step under way; a second one ends the process at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether a signal came, and which."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None


@contextmanager
def stopping(patient: bool = False) -> Iterator[Stop]:
    """Catch the signals; on leaving, handlers are what they were.

    With `patient`, a second signal does not end the process: where several processes stop together, each may get the
    same wish twice.
    """
    stop = Stop()
    before = {each: signal.getsignal(each) for each in SIGNALS}

    def note(number: int, _frame: FrameType | None) -> None:
        stop.signal = signal.Signals(number)
        for each in SIGNALS if not patient else ():
            signal.signal(each, signal.SIG_DFL)

    for each in SIGNALS:
        signal.signal(each, note)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
