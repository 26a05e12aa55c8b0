"""A person at a terminal, played by tmux: text streams, Ctrl-C ends the sample, Ctrl-D the program."""

import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
import torch

from stages.core.records import TrainingRecord
from stages.models.base import build_model
from stages.models.model_folder import save_model
from stages.tokenizers.char import CharTokenizer
from tests.conftest import make_text, model_params
from tests.import_graph import ROOT

pytestmark = pytest.mark.skipif(not shutil.which("tmux"), reason="there is no tmux: the terminal was not tried")
Screen = Callable[[Callable[[str], bool]], str]


class Terminal:
    """A tmux session that runs `folio sample`."""

    def __init__(self, folder: str, *words: str) -> None:
        self.name = f"folio-{uuid.uuid4().hex[:8]}"
        command = (
            f"cd {folder}; PYTHONPATH={ROOT} {sys.executable} -m stages.sample {' '.join(words)}; echo ended $?; cat"
        )
        self.tmux("new-session", "-d", "-x", "100", "-y", "200", "-s", self.name, command)

    def tmux(self, *words: str) -> str:
        return subprocess.run(["tmux", *words], capture_output=True, text=True, check=True).stdout

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", "-t", self.name, *keys)

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p", "-J", "-t", self.name).rstrip()

    def wait_for(self, found: Callable[[str], bool]) -> str:
        end = time.monotonic() + 30
        while not found(self.screen()):
            assert time.monotonic() < end, self.screen()
            time.sleep(0.05)
        return self.screen()


@pytest.fixture
def start(tmp_path) -> Iterator[Callable[..., Terminal]]:
    tokenizer = CharTokenizer.from_text(make_text())
    torch.manual_seed(1)
    save_model(
        tmp_path / "models", build_model(model_params(kind="bigram"), len(tokenizer)), tokenizer, TrainingRecord()
    )
    opened: list[Terminal] = []

    def open_terminal(*words: str) -> Terminal:
        opened.append(Terminal(str(tmp_path), *words))
        return opened[-1]

    yield open_terminal
    for terminal in opened:
        terminal.tmux("kill-session", "-t", terminal.name)


def test_text_streams_as_it_is_made_and_ctrl_c_ends_the_program(start):
    terminal = start("--prompt", "king", "--max-new-tokens", "1000000")
    first = terminal.wait_for(lambda screen: len(screen) > 50)
    assert first.startswith("king")
    assert "ended" not in first
    terminal.wait_for(lambda screen: len(screen) > len(first))
    terminal.keys("C-c")
    terminal.wait_for(lambda screen: "ended 130" in screen)


def test_the_interactive_loop_writes_ends_samples_remembers_and_ends(start):
    terminal = start("--interactive", "--max-new-tokens", "30000")
    terminal.wait_for(lambda screen: screen.endswith(">"))
    terminal.keys("land", "Enter")
    terminal.wait_for(lambda screen: screen.count("land") >= 2 and len(screen) > 200)
    terminal.keys("C-c")
    terminal.wait_for(lambda screen: screen.endswith(">"))
    terminal.keys("7", "Enter")
    terminal.wait_for(lambda screen: "unknown characters: '7'" in screen and screen.endswith(">"))
    terminal.keys("Up")  # history
    terminal.wait_for(lambda screen: screen.endswith("> 7"))
    terminal.keys("C-c")
    terminal.wait_for(lambda screen: screen.endswith(">"))
    terminal.keys("C-d")
    terminal.wait_for(lambda screen: "ended 0" in screen)
