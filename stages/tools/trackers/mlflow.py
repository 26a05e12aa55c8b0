"""MLflow: the server that MLFLOW_TRACKING_URI names, experiment MLFLOW_EXPERIMENT_NAME or `folio`."""

import os
from collections.abc import Mapping

# Its own patience with a server that is down is minutes, for which training would wait. Read when it is imported.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

import mlflow

from stages.train.tracking import Value


class Run:
    """A run of the experiment."""

    def __init__(self, name: str, params: Mapping[str, Value]) -> None:
        if "MLFLOW_TRACKING_URI" not in os.environ:
            raise ConnectionError("set MLFLOW_TRACKING_URI to the address of your server")
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", "folio"))
        self.run = mlflow.start_run(run_name=name)
        mlflow.log_params(dict(params))

    def row(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Tracker`."""
        mlflow.log_metrics(dict(figures), step=step)

    def end(self, succeeded: bool) -> None:
        """See `Tracker`."""
        mlflow.end_run("FINISHED" if succeeded else "FAILED")
