"""Track a training run in Weights & Biases.

The project is WANDB_PROJECT, or `folio`. WANDB_MODE=offline writes to logs/wandb.
"""

import os
from collections.abc import Mapping
from typing import Any

import wandb
from typing_extensions import override

from stages.core.project import project_root
from stages.train.tracking import Tracker


class WandbTracker(Tracker):
    """A run of the project."""

    def __init__(self, run: Any) -> None:  # noqa: ANN401 - wandb has no types here
        self.run = run

    @override
    def log_point(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log(dict(values), step=step)

    @override
    def finish(self, succeeded: bool) -> None:
        self.run.finish(exit_code=0 if succeeded else 1)


def start_run(name: str, params: Mapping[str, object]) -> WandbTracker:
    """Start a run."""
    logs = project_root() / "logs"
    logs.mkdir(exist_ok=True)
    project = os.environ.get("WANDB_PROJECT", "folio")
    run = wandb.init(project=project, name=name, config=dict(params), dir=logs, reinit="create_new")
    return WandbTracker(run)
