"""Send the learning curve to DVCLive, TensorBoard, MLflow or Weights & Biases, as `runtime.trackers` requests.

The trackers are in `stages/tools/trackers` and are imported by name, so a change to one does not retrain a model.
"""

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Protocol

from stages.core.errors import ParameterError
from stages.core.logs import log
from stages.core.project import install_command


class Tracker(Protocol):
    """A run in a tracking service."""

    def log_point(self, step: int, values: Mapping[str, float]) -> None:
        """Send a point of the learning curve."""

    def finish(self, succeeded: bool) -> None:
        """End the run: training is complete, or was stopped or failed."""


# Starts a run with a name and parameters.
TrackerFactory = Callable[[str, Mapping[str, object]], Tracker]


class Trackers:
    """Several trackers; one that fails is removed with a warning, so that it cannot stop a training run.

    Args:
        factories: the trackers to start, by name.
        params: parameters of the run.
    """

    def __init__(self, factories: Mapping[str, TrackerFactory], params: Mapping[str, object]) -> None:
        self.active: dict[str, Tracker] = {}
        experiment = re.sub(r"^\.+|[^\w.-]", "_", os.environ.get("DVC_EXP_NAME") or "folio")  # may name a folder
        run_name = f"{experiment} {time.strftime('%Y-%m-%d %H.%M.%S')}"
        for name, factory in factories.items():
            with self._removed_on_failure(name):
                self.active[name] = factory(run_name, params)

    def log_point(self, step: int, values: Mapping[str, float]) -> None:
        """Send a point of the learning curve to all trackers."""
        self._for_each(lambda tracker: tracker.log_point(step, values))

    def finish(self, succeeded: bool) -> None:
        """End all runs."""
        self._for_each(lambda tracker: tracker.finish(succeeded))

    def _for_each(self, action: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.active.items()):
            with self._removed_on_failure(name):
                action(tracker)

    @contextmanager
    def _removed_on_failure(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.active.pop(name, None)
            reason = str(error).strip() or type(error).__name__
            log.warning("tracker %s failed (%s); training continues without it", name, reason)


@contextmanager
def track(factories: Mapping[str, TrackerFactory], params: Mapping[str, object]) -> Iterator[Trackers]:
    """Track a training run until it completes, stops or fails."""
    trackers = Trackers(factories, params)
    succeeded = False
    try:
        yield trackers
        succeeded = True
    finally:
        trackers.finish(succeeded)


def load_tracker(name: str) -> TrackerFactory:
    """Return the factory of a tracker.

    Raises:
        ParameterError: if its library is not installed.
    """
    try:
        factory: TrackerFactory = import_module(f"stages.tools.trackers.{name}").start_run
    except ImportError as error:
        raise ParameterError(
            f"runtime.trackers contains '{name}', whose library is not installed ({error}): {install_command(name)}"
        ) from None
    return factory
