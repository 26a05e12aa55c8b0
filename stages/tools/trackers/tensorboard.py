"""TensorBoard: event files in logs/tensorboard/; `tensorboard --logdir logs/tensorboard` shows them."""

from collections.abc import Mapping

from torch.utils.tensorboard import SummaryWriter

from stages.train.tracking import Value, logs


class Run:
    """A run of its own folder."""

    def __init__(self, name: str, params: Mapping[str, Value]) -> None:
        self.writer = SummaryWriter(str(logs() / "tensorboard" / name))
        table = "\n".join(f"| {key} | {value} |" for key, value in params.items())
        self.writer.add_text("params", f"| | |\n| --- | --- |\n{table}")

    def row(self, step: int, figures: Mapping[str, float]) -> None:
        """See `Tracker`."""
        for key, value in figures.items():
            self.writer.add_scalar(key, value, step)
        self.writer.flush()

    def end(self, succeeded: bool) -> None:  # noqa: ARG002 - it has no word for that
        """See `Tracker`."""
        self.writer.close()
