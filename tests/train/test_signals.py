import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.core.errors import Interrupted
from stages.train.signals import REPEAT_SECONDS, catch_stop_signals


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGUSR1, 138), (signal.SIGXCPU, 152)],
)
def test_a_signal_is_recorded_and_handlers_are_restored(number, code):
    def handle(*_: object) -> None:
        """Do nothing."""

    before = signal.signal(number, handle)  # not ignored, as SIGHUP is if nohup runs the tests
    try:
        with catch_stop_signals() as stop:
            assert stop.signal is None
            os.kill(os.getpid(), number)
            assert stop.signal == number
        assert Interrupted(number).exit_code == code
        assert signal.getsignal(number) is handle
    finally:
        signal.signal(number, before)


def test_a_second_signal_ends_the_process_at_once_unless_it_has_the_same_cause():
    code = (
        "import time\nfrom stages.train.signals import catch_stop_signals\n"
        "with catch_stop_signals():\n  print('ready', flush=True)\n  time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout
    assert child.stdout.readline() == b"ready\n"
    for _ in range(2):  # at once: the second one has the same cause
        child.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        assert child.poll() is None
    time.sleep(REPEAT_SECONDS)
    child.send_signal(signal.SIGTERM)
    assert child.wait(5) == -signal.SIGTERM
    child.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_sigterm_and_sigint_count_even_if_they_were_ignored(number):
    before = signal.signal(number, signal.SIG_IGN)  # as by the container's entrypoint, and by shells in the background
    try:
        with catch_stop_signals() as stop:
            os.kill(os.getpid(), number)
            assert stop.signal == number
    finally:
        signal.signal(number, before)


def test_a_signal_that_was_ignored_is_still_ignored(monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with catch_stop_signals() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop.signal is None
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent ended")
def test_a_process_ends_with_its_parent(tmp_path):
    child = tmp_path / "child.py"
    child.write_text(
        "import time\nfrom stages.train.signals import end_with_parent\n"
        "end_with_parent()\nprint('ready', flush=True)\ntime.sleep(60)"
    )
    parent = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, {str(child)!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\nos._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    state = Path(f"/proc/{done.stdout.strip()}/status")
    for _ in range(100):
        if not state.exists() or "State:\tZ" in state.read_text():
            return
        time.sleep(0.05)
    pytest.fail("the child is still running")
