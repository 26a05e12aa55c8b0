"""SIGTERM and SIGINT as a wish to stop after the step under way; a second one ends the process at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from stages.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether a signal came, and which."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def check(self) -> None:
        """Raise what ends the stage, where a signal came.

        Raises:
            Interrupted: with 128 + the signal's number as exit code, so that DVC does not take the stage for done.
        """
        if self.signal:
            raise Interrupted(self.signal)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Catch the signals; on leaving, handlers are what they were."""
    stop = Stop()
    before = {each: signal.getsignal(each) for each in SIGNALS}

    def note(number: int, _frame: FrameType | None) -> None:
        stop.signal = signal.Signals(number)
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    for each in SIGNALS:
        signal.signal(each, note)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
