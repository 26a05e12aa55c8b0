"""The learning curve shown elsewhere as well: in TensorBoard, MLflow or Weights & Biases, where `train.track` asks."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol

from stages.core.errors import ParameterError
from stages.core.logs import log

Value = str | int | float | bool | None | list[str]


class Tracker(Protocol):
    """What a service of that kind is told."""

    def row(self, step: int, figures: Mapping[str, float]) -> None:
        """Show a row of the learning curve."""

    def end(self, succeeded: bool) -> None:
        """Say that no more will come: the training has ended, or was stopped or failed."""


# Begins to track a run of that name with those parameters.
Make = Callable[[str, Mapping[str, Value]], Tracker]


class Trackers:
    """Several together. One that fails is left out from then on: a training is not lost to a service that is down."""

    def __init__(self, kinds: Mapping[str, Make], params: Mapping[str, Value]) -> None:
        self.running: dict[str, Tracker] = {}
        name = f"{os.environ.get('DVC_EXP_NAME') or 'folio'} {time.strftime('%Y-%m-%d %H.%M.%S')}"
        for kind, make in kinds.items():
            with self._left_out_if_it_fails(kind):
                self.running[kind] = make(name, params)

    def row(self, step: int, figures: Mapping[str, float]) -> None:
        """Show a row of the learning curve in all of them."""
        self._each(lambda tracker: tracker.row(step, figures))

    def end(self, succeeded: bool) -> None:
        """Say that no more will come."""
        self._each(lambda tracker: tracker.end(succeeded))

    def _each(self, do: Callable[[Tracker], None]) -> None:
        for kind, tracker in list(self.running.items()):
            with self._left_out_if_it_fails(kind):
                do(tracker)

    @contextmanager
    def _left_out_if_it_fails(self, kind: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.running.pop(kind, None)
            log.warning("%s failed (%s); training goes on without it", kind, str(error).strip() or type(error).__name__)


def logs() -> Path:
    """Give the folder for files; in queued experiments, which run in a copy, that of the real project."""
    return Path(os.environ.get("DVC_ROOT", ".")) / "logs"


def find(kind: str) -> Make:
    """Find what tracks with a service.

    Raises:
        ParameterError: where its library is not installed.
    """
    try:
        make: Make = import_module(f"stages.tools.trackers.{kind}").Run
    except ImportError as error:
        raise ParameterError(
            f"train.track names '{kind}', whose library is not installed ({error}): pip install -e '.[{kind}]'"
        ) from None
    return make
