"""Track a training run in TensorBoard, with event files in logs/tensorboard."""

from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter
from typing_extensions import override

from stages.core.project import project_root
from stages.train.tracking import Tracker


class TensorBoardTracker(Tracker):
    """A run in a folder of its own."""

    def __init__(self, writer: SummaryWriter) -> None:
        self.writer = writer

    @override
    def log_point(self, step: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()

    @override
    def finish(self, succeeded: bool) -> None:
        self.writer.close()


def start_run(name: str, params: Mapping[str, object]) -> TensorBoardTracker:
    """Start a run, with its parameters as a table."""
    writer = SummaryWriter(str(project_root() / "logs" / "tensorboard" / name))
    table = "\n".join(f"| {key} | {value} |" for key, value in params.items())
    writer.add_text("params", f"| | |\n| --- | --- |\n{table}")
    return TensorBoardTracker(writer)
