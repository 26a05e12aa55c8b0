import os
import signal
import subprocess
import sys
import time

import pytest

from stages.core.errors import Interrupted
from stages.train.signals import catch_stop_signals


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_recorded_and_handlers_are_restored(number, code):
    before = signal.getsignal(number)
    with catch_stop_signals() as stop:
        assert stop.signal is None
        os.kill(os.getpid(), number)
        assert stop.signal == number
    assert Interrupted(number).exit_code == code
    assert signal.getsignal(number) is before


def test_a_second_signal_ends_the_process_at_once():
    code = (
        "import time\nfrom stages.train.signals import catch_stop_signals\n"
        "with catch_stop_signals():\n  print('ready', flush=True)\n  time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert child.poll() is None
    child.send_signal(signal.SIGTERM)
    assert child.wait(5) == -signal.SIGTERM
    child.stdout.close()
