"""The figures of the report, as reproducible SVG; inside a page they use the text colour of the page."""

import io
import re
import unicodedata
import warnings
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from stages.core.display import escape_controls

INK = "#444444"  # replaced by the text colour of the page
BLUE, ORANGE, GREY = "#3b7dd8", "#d9730d", "#8a8a8a"
SETTINGS: Any = {
    "svg.hashsalt": "folio",  # reproducible identifiers
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def draw_losses(values: dict[str, float], unit: str, model_count: int) -> str:
    """Return a bar chart of losses; the first ones, those of the model, are highlighted."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure(0.6 + 0.3 * len(values), left=0.2 + 0.07 * max(map(len, values)))
        axes.barh(
            list(values), list(values.values()), color=[*[BLUE] * model_count, *[GREY] * (len(values) - model_count)]
        )
        axes.invert_yaxis()
        axes.set_xlabel(f"nats per {unit} (lower is better)")
        axes.set_xlim(0, max(values.values()) * 1.12 or 1.0)  # all are 0 if there is one character
        for index, value in enumerate(values.values()):
            axes.text(value, index, f" {value:.4f}", va="center")
        return _svg(figure)


def draw_curve(table: pd.DataFrame, unit: str) -> str:
    """Return a plot of training and validation loss by step."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure(legend_lines=1)
        marker = "o" if len(table) == 1 else None
        axes.plot(
            table["step"],
            table["train_loss"],
            color=GREY,
            marker=marker,
            label="training, mean since the previous point",
        )
        axes.plot(table["step"], table["val_loss"], color=BLUE, marker=marker, label="validation, a few windows")
        axes.set(xlabel="step", ylabel=f"loss, nats per {unit}")
        _add_legend(axes)
        return _svg(figure)


def average_by_position(table: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean positions and losses in bins that are equally wide on a logarithmic axis, four for each doubling.

    The upper end belongs to a bin, so that the last position of a window shares one with those before it.
    """
    positions, weights = table["position"].to_numpy(), table["tokens"].to_numpy()
    bins = np.ceil(np.log2(positions) * 4).astype(int)
    total = np.bincount(bins, weights)
    nonempty = total > 0
    mean_positions, mean_losses = (
        np.bincount(bins, weights * values)[nonempty] / total[nonempty] for values in (positions, table["val_loss"])
    )
    return mean_positions, mean_losses


def draw_by_position(table: pd.DataFrame, unit: str) -> str:
    """Return a plot of the loss by position in the window."""
    mean_positions, mean_losses = average_by_position(table)
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
        axes.semilogx(mean_positions, mean_losses, color=BLUE, marker="o", markersize=3)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel=f"position in the window ({unit}s of context), logarithmic", ylabel=f"loss, nats per {unit}")
        return _svg(figure)


def draw_probabilities(probabilities: NDArray[np.floating[Any]], unit: str) -> str:
    """Return a histogram of the probabilities of the actual tokens."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
        weights = np.full(len(probabilities), 100 / len(probabilities))
        axes.hist(probabilities, bins=list(np.linspace(0, 1, 41)), weights=weights, color=BLUE)
        axes.set(xlabel=f"predicted probability of the actual {unit}", ylabel=f"% of {unit}s")
        return _svg(figure)


def draw_calibration(table: pd.DataFrame, unit: str) -> str:
    """Return a plot of the accuracy of the most likely token by its probability."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure(legend_lines=1)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect calibration")
        axes.plot(table["confidence"], table["accuracy"], color=BLUE, marker="o", markersize=4, label="the model")
        axes.set(xlabel=f"probability of the most likely {unit}", ylabel="accuracy")
        _add_legend(axes)
        return _svg(figure)


def draw_attention(layers: NDArray[np.floating[Any]], tokens: Sequence[str]) -> str:
    """Return the attention maps, (layers, H, T, T), with a row of heads for each layer.

    A row of a map is the position that attends, a column the position that is attended to.
    """
    layer_count, head_count, length = layers.shape[:3]
    labels = [token.replace("$", r"\$") for token in tokens]
    widest = max(map(text_width, labels))
    with mpl.rc_context(SETTINGS | {"axes.spines.left": False, "axes.spines.bottom": False, "font.size": 6}):
        label_inches = 0.1 + 0.04 * widest
        size = (7.5, (7.5 - label_inches) / head_count * layer_count + label_inches)
        cell_points = 72 * (7.5 - label_inches) / head_count / length
        # A letter is half as wide as high. Labels of several letters are turned, as they would overlap.
        font_size = min(6.0, 0.9 * cell_points * (2 if widest == 1 else 1))
        figure = Figure(figsize=size)
        margins = _margins(size, left=label_inches, right=0.0, bottom=label_inches, top=0.2)
        grid = figure.subplots(
            layer_count, head_count, squeeze=False, gridspec_kw=margins | {"wspace": 0.04, "hspace": 0.12}
        )
        for layer, row in enumerate(grid):
            for head, axes in enumerate(row):
                axes.imshow(layers[layer, head], cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
                axes.set_title(f"layer {layer + 1}, head {head + 1}")
                axes.set(xticks=[], yticks=[])
                axes.tick_params(length=0, pad=1)
        for axes in grid[:, 0]:
            axes.set_yticks(range(length), labels, fontsize=min(font_size, 0.9 * cell_points))
        for axes in grid[-1]:
            axes.set_xticks(range(length), labels, fontsize=font_size, rotation=90 if max(map(len, labels)) > 1 else 0)
        return _svg(figure)


def draw_curves(curves: dict[str, pd.DataFrame]) -> str:
    """Return a plot of the validation loss of several runs by step."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure(legend_lines=len(curves))
        for name, table in curves.items():
            label = escape_controls(name).replace("$", r"\$")
            axes.plot(table["step"], table["val_loss"], marker="o", markersize=3, label=label)
        axes.set(xlabel="step", ylabel="validation loss, nats per token")
        _add_legend(axes, columns=1)
        return _svg(figure)


def text_width(text: str) -> int:
    """Return the width of a text in letters; those of Chinese, Japanese and Korean count two."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


def inline(svg: str, name: str, label: str) -> Markup:
    """Return an SVG to embed in a page, with the text colour of the page, unique identifiers and a text alternative.

    Args:
        svg: the figure.
        name: prefix of its identifiers.
        label: text alternative.
    """
    body = svg[svg.index("<svg") :].replace(INK, "currentColor")
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', body)
    return Markup(body.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1))


def _figure(height: float = 2.8, left: float = 0.7, legend_lines: int = 0) -> tuple[Figure, Axes]:
    """Return a figure with one plot.

    Args:
        height: height of the figure without a legend, in inches.
        left: room for the labels of the vertical axis, in inches.
        legend_lines: lines of a legend above the plot, where it covers no curve.
    """
    legend = 0.19 * legend_lines
    size = (7.0, height + legend)
    figure = Figure(figsize=size)
    return figure, figure.subplots(gridspec_kw=_margins(size, left, right=0.1, bottom=0.45, top=0.1 + legend))


def _add_legend(axes: Axes, columns: int = 2) -> None:
    """Add a legend above the plot."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderpad=0, labelspacing=0.2)


def _margins(size: tuple[float, float], left: float, right: float, bottom: float, top: float) -> dict[str, float]:
    """Return margins in inches as shares of the figure; matplotlib's own layout engines draw a figure twice."""
    width, height = size
    return {"left": left / width, "right": 1 - right / width, "bottom": bottom / height, "top": 1 - top / height}


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # text is drawn by the viewer
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
