"""Track a training run in MLflow: server MLFLOW_TRACKING_URI, experiment MLFLOW_EXPERIMENT_NAME or `folio`."""

import os
from collections.abc import Mapping

# By default MLflow waits minutes for an unreachable server. The variables are read when it is imported.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow
from typing_extensions import override

from stages.train.tracking import Tracker


class MlflowTracker(Tracker):
    """A run of the experiment."""

    @override
    def log_point(self, step: int, values: Mapping[str, float]) -> None:
        mlflow.log_metrics(dict(values), step=step)

    @override
    def finish(self, succeeded: bool) -> None:
        mlflow.end_run("FINISHED" if succeeded else "FAILED")


def start_run(name: str, params: Mapping[str, object]) -> MlflowTracker:
    """Start a run.

    Raises:
        ConnectionError: if MLFLOW_TRACKING_URI is not set.
    """
    if "MLFLOW_TRACKING_URI" not in os.environ:
        raise ConnectionError("set MLFLOW_TRACKING_URI to the address of the server")
    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "folio"))
    mlflow.start_run(run_name=name)
    mlflow.log_params(dict(params))
    return MlflowTracker()
