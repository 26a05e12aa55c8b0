"""Track a training run with DVCLive, in dvclive/, where DVC's extension for VS Code finds the growing curve."""

from collections.abc import Mapping
from pathlib import Path

from dvclive import Live
from typing_extensions import override

from stages.train.tracking import Tracker


class DvcLiveTracker(Tracker):
    """The files of the latest run."""

    def __init__(self, live: Live) -> None:
        self.live = live

    @override
    def log_point(self, step: int, values: Mapping[str, float]) -> None:
        self.live.step = step
        for key, value in values.items():
            self.live.log_metric(key, value)
        self.live.make_summary()

    @override
    def finish(self, succeeded: bool) -> None:
        self.live.end()


def start_run(name: str, params: Mapping[str, object]) -> DvcLiveTracker:  # noqa: ARG001 - DVC reads params.yaml itself
    """Start a run, which replaces the files of the last one."""
    folder = Path("dvclive")
    return DvcLiveTracker(
        Live(str(folder), save_dvc_exp=False, dvcyaml=str(folder / "dvc.yaml"), report=None, monitor_system=False)
    )
