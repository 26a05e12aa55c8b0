"""Track a training run with DVCLive, in dvclive/, where DVC's extension for VS Code finds the growing curve."""

from collections.abc import Mapping
from pathlib import Path

from dvclive import Live


class DvcLiveTracker:
    """The files of the latest run; see `Tracker`."""

    def __init__(self, live: Live) -> None:
        self.live = live

    def log_point(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self.live.step = step
        for key, value in values.items():
            self.live.log_metric(key, value)
        self.live.make_summary()

    def finish(self, succeeded: bool) -> None:  # noqa: ARG002 - DVCLive does not record the outcome
        """See `Tracker`."""
        self.live.end()


def start_run(name: str, params: Mapping[str, object]) -> DvcLiveTracker:  # noqa: ARG001 - DVC reads params.yaml itself
    """Start a run, which replaces the files of the last one."""
    folder = Path("dvclive")
    return DvcLiveTracker(
        Live(str(folder), save_dvc_exp=False, dvcyaml=str(folder / "dvc.yaml"), report=None, monitor_system=False)
    )
