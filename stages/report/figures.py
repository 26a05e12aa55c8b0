"""The report's pictures, as SVG that is the same on every run; in a page they take its ink."""

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
from torch import Tensor

INK = "#444444"  # becomes the page's own ink
BLUE, ORANGE, GREY = "#3b7dd8", "#d9730d", "#8a8a8a"
SETTINGS: Any = {
    "svg.hashsalt": "folio",  # fixed identifiers
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


def losses(values: dict[str, float], unit: str) -> str:
    """Draw losses as bars, the first two, the model's, marked."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure(0.6 + 0.3 * len(values))
        axes.barh(list(values), list(values.values()), color=[BLUE, BLUE, *[GREY] * (len(values) - 2)])
        axes.invert_yaxis()
        axes.set_xlabel(f"nats per {unit}: less is better")
        axes.set_xlim(0, max(values.values()) * 1.12)
        for place, value in enumerate(values.values()):
            axes.text(value, place, f" {value:.4f}", va="center")
        return _svg(figure)


def curve(table: pd.DataFrame, unit: str) -> str:
    """Draw the loss of training and validation by step."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
        marker = "o" if len(table) == 1 else None
        axes.plot(table["step"], table["train_loss"], color=GREY, marker=marker, label="training, since the row before")
        axes.plot(table["step"], table["val_loss"], color=BLUE, marker=marker, label="validation, some windows")
        axes.set(xlabel="step", ylabel=f"loss, nats per {unit}")
        axes.legend()
        return _svg(figure)


def by_position(table: pd.DataFrame, unit: str) -> str:
    """Draw the loss by position in the window, averaged where positions are many, on a logarithmic axis."""
    positions, weights = table["position"].to_numpy(), table["tokens"].to_numpy()
    bins = np.floor(np.log2(positions) * 4).astype(int)
    total = np.bincount(bins, weights)
    some = total > 0
    places, means = (np.bincount(bins, weights * each)[some] / total[some] for each in (positions, table["val_loss"]))
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
        axes.semilogx(places, means, color=BLUE, marker="o", markersize=3)
        axes.set(xlabel=f"position in the window ({unit}s seen), logarithmic", ylabel=f"loss, nats per {unit}")
        return _svg(figure)


def probabilities(p: NDArray[np.float64], unit: str) -> str:
    """Draw how often a token that came had been given such a probability."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
        axes.hist(p, bins=list(np.linspace(0, 1, 41)), weights=np.full(len(p), 100 / len(p)), color=BLUE)
        axes.set(xlabel=f"probability given to the {unit} that came", ylabel=f"% of {unit}s")
        return _svg(figure)


def calibration(table: pd.DataFrame, unit: str) -> str:
    """Draw how often the likeliest token came, beside how likely it was."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="as sure as it is right")
        axes.plot(table["confidence"], table["accuracy"], color=BLUE, marker="o", markersize=4, label="the model")
        axes.set(xlabel=f"probability of the likeliest {unit}", ylabel="how often it came")
        axes.legend()
        return _svg(figure)


def attention(layers: Sequence[Tensor], signs: Sequence[str]) -> str:
    """Draw the weights of every layer (rows) and head (columns); a row of a map is a character that looks back."""
    heads, length = layers[0].shape[:2]
    names = [each.replace("$", r"\$") for each in signs]
    with mpl.rc_context(SETTINGS | {"axes.spines.left": False, "axes.spines.bottom": False, "font.size": 6}):
        figure = Figure(figsize=(7.5, 7.5 / heads * len(layers) + 0.3), layout="constrained")
        grid = figure.subplots(len(layers), heads, squeeze=False)
        for layer, row in enumerate(grid):
            for head, axes in enumerate(row):
                axes.imshow(layers[layer][head].numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
                axes.set_title(f"layer {layer + 1}, head {head + 1}")
                axes.set_xticks(range(length), names)
                axes.set_yticks(range(length), names, fontsize=4)
                axes.tick_params(length=0, pad=1)
        return _svg(figure)


def compared(curves: dict[str, pd.DataFrame]) -> str:
    """Draw the validation loss of several runs by step."""
    with mpl.rc_context(SETTINGS):
        figure, axes = _figure()
        for name, table in curves.items():
            axes.plot(table["step"], table["val_loss"], marker="o", markersize=3, label=name)
        axes.set(xlabel="step", ylabel="validation loss, nats per token")
        axes.legend()
        return _svg(figure)


def inline(svg: str, name: str, label: str) -> Markup:
    """Fit a picture into a page: its ink, identifiers of its own, and words for those who cannot see it."""
    body = svg[svg.index("<svg") :].replace(INK, "currentColor")
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = re.sub(r"url\(#", f"url(#{name}-", body)
    body = re.sub(r'xlink:href="#', f'xlink:href="#{name}-', body)
    return Markup(body.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1))


def _figure(height: float = 2.8):  # type: ignore[no-untyped-def]  # noqa: ANN202 - matplotlib's own
    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # letters are drawn by whoever shows the picture
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
