"""The figures of the lecture page, as reproducible SVG."""

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

mpl.rcParams["svg.hashsalt"] = "folio"  # reproducible identifiers
mpl.rcParams["svg.fonttype"] = "none"


def draw_loss_curve(losses: Sequence[float], uniform_loss: float, bigram_loss: float) -> str:
    """Return a plot of the loss by step, averaged over a hundred steps, with a logarithmic axis of steps."""
    size = max(1, min(100, len(losses) // 10))
    smooth = np.convolve(losses, np.ones(size) / size, "valid")
    figure, axes = _axes("step (logarithmic)", "loss, nats per character")
    axes.semilogx(np.arange(size, len(losses) + 1), smooth, color="#3366aa", label=f"mean of {size} batches")
    axes.axhline(uniform_loss, color="#999999", linestyle=":", label="uniform: ln 65")
    axes.axhline(bigram_loss, color="#aa5533", linestyle="--", label="bigram counts, validation text")
    axes.legend(frameon=False)
    return _svg(figure)


def draw_matrix(values: Sequence[Sequence[float]], rows: str, columns: str) -> str:
    """Return a matrix as an image."""
    figure, axes = _axes(columns, rows, width=4.0)
    axes.imshow(np.array(values), cmap="Blues", vmin=0.0)
    return _svg(figure)


def draw_bars(first: Sequence[float], second: Sequence[float], names: tuple[str, str]) -> str:
    """Return a bar chart of two distributions side by side."""
    figure, axes = _axes("key", "weight")
    positions = np.arange(len(first))
    axes.bar(positions - 0.2, first, 0.4, label=names[0], color="#aa5533")
    axes.bar(positions + 0.2, second, 0.4, label=names[1], color="#3366aa")
    axes.legend(frameon=False)
    return _svg(figure)


def _axes(x: str, y: str, width: float = 6.5):  # type: ignore[no-untyped-def]  # noqa: ANN202 - matplotlib has no types
    figure = Figure(figsize=(width, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()
