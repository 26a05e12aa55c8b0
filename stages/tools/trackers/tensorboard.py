"""Track a training run in TensorBoard, with event files in logs/tensorboard."""

from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from stages.tools.trackers.paths import logs_folder


class TensorBoardTracker:
    """A run in a folder of its own; see `Tracker`."""

    def __init__(self, writer: SummaryWriter) -> None:
        self.writer = writer

    def log_point(self, step: int, values: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()

    def finish(self, succeeded: bool) -> None:  # noqa: ARG002 - TensorBoard does not record the outcome
        """See `Tracker`."""
        self.writer.close()


def start_run(name: str, params: Mapping[str, object]) -> TensorBoardTracker:
    """Start a run, with its parameters as a table."""
    writer = SummaryWriter(str(logs_folder() / "tensorboard" / name))
    table = "\n".join(f"| {key} | {value} |" for key, value in params.items())
    writer.add_text("params", f"| | |\n| --- | --- |\n{table}")
    return TensorBoardTracker(writer)
