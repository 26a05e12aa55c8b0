"""Weights & Biases: project WANDB_PROJECT or `folio`; WANDB_MODE=offline keeps it in logs/wandb/."""

import os
from collections.abc import Mapping

import wandb

from stages.train.tracking import Value, logs


class Run:
    """A run of the project."""

    def __init__(self, name: str, params: Mapping[str, Value]) -> None:
        logs().mkdir(exist_ok=True)
        project = os.environ.get("WANDB_PROJECT", "folio")
        self.run = wandb.init(project=project, name=name, config=dict(params), dir=logs(), reinit="create_new")

    def row(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Tracker`."""
        self.run.log(dict(figures), step=step)

    def end(self, succeeded: bool) -> None:
        """See `Tracker`."""
        self.run.finish(exit_code=0 if succeeded else 1)
