"""The figures of the report, as reproducible SVG; inside a page they use the text colour of the page."""

import io
import re
import warnings
from collections.abc import Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

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


def draw_losses(values: dict[str, float], unit: str) -> str:
    """Return a bar chart of losses; the first two, those of the model, are highlighted."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure(0.6 + 0.3 * len(values))
        axes.barh(list(values), list(values.values()), color=[BLUE, BLUE, *[GREY] * (len(values) - 2)])
        axes.invert_yaxis()
        axes.set_xlabel(f"nats per {unit} (lower is better)")
        axes.set_xlim(0, max(values.values()) * 1.12)
        for index, value in enumerate(values.values()):
            axes.text(value, index, f" {value:.4f}", va="center")
        return _svg(figure)


def draw_curve(table: pd.DataFrame, unit: str) -> str:
    """Return a plot of training and validation loss by step."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
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
        axes.legend()
        return _svg(figure)


def draw_by_position(table: pd.DataFrame, unit: str) -> str:
    """Return a plot of the loss by position in the window, averaged in bins of a logarithmic axis."""
    positions, weights = table["position"].to_numpy(), table["tokens"].to_numpy()
    bins = np.floor(np.log2(positions) * 4).astype(int)
    total = np.bincount(bins, weights)
    nonempty = total > 0
    mean_positions, mean_losses = (
        np.bincount(bins, weights * values)[nonempty] / total[nonempty] for values in (positions, table["val_loss"])
    )
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
        axes.semilogx(mean_positions, mean_losses, color=BLUE, marker="o", markersize=3)
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
        figure, axes = _figure()
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="perfect calibration")
        axes.plot(table["confidence"], table["accuracy"], color=BLUE, marker="o", markersize=4, label="the model")
        axes.set(xlabel=f"probability of the most likely {unit}", ylabel="accuracy")
        axes.legend()
        return _svg(figure)


def draw_attention(layers: NDArray[np.floating[Any]], tokens: Sequence[str]) -> str:
    """Return the attention maps, (layers, H, T, T), with a row of heads for each layer.

    A row of a map is the position that attends, a column the position that is attended to.
    """
    layer_count, head_count, length = layers.shape[:3]
    labels = [token.replace("$", r"\$") for token in tokens]
    with mpl.rc_context(SETTINGS | {"axes.spines.left": False, "axes.spines.bottom": False, "font.size": 6}):
        figure = Figure(figsize=(7.5, 7.5 / head_count * layer_count + 0.3), layout="constrained")
        grid = figure.subplots(layer_count, head_count, squeeze=False)
        for layer, row in enumerate(grid):
            for head, axes in enumerate(row):
                axes.imshow(layers[layer, head], cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
                axes.set_title(f"layer {layer + 1}, head {head + 1}")
                axes.set(xticks=[], yticks=[])
                axes.tick_params(length=0, pad=1)
        for axes in grid[:, 0]:
            axes.set_yticks(range(length), labels, fontsize=4)
        for axes in grid[-1]:
            axes.set_xticks(range(length), labels)
        return _svg(figure)


def draw_curves(curves: dict[str, pd.DataFrame]) -> str:
    """Return a plot of the validation loss of several runs by step."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
        for name, table in curves.items():
            axes.plot(table["step"], table["val_loss"], marker="o", markersize=3, label=name)
        axes.set(xlabel="step", ylabel="validation loss, nats per token")
        axes.legend()
        return _svg(figure)


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


def _figure(height: float = 2.8):  # type: ignore[no-untyped-def]  # noqa: ANN202 - matplotlib has no types
    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # text is drawn by the viewer
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
