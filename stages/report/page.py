"""The page and the model card: what was measured, put into words and pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from torch import Tensor

from stages.evaluate.attention import attention_weights
from stages.evaluate.predictions import Predictions
from stages.models.base import LanguageModel
from stages.report import difficulty, figures, surprise
from stages.report.params import ReportParams
from stages.report.samples import Marked
from stages.tokenizers.base import Tokenizer

# Published losses on tinyshakespeare, both estimates on random batches (nanoGPT's README).
ANCHORS = {"nanoGPT, CPU, minutes (published)": 1.88, "nanoGPT, A100, 3 min (published)": 1.4697}
MOST_MAPS = 24
MOST_ATTENDED = 32


@dataclass(frozen=True)
class Material:
    """Everything that the page shows, as the stages before left it and as the report worked it out."""

    about: dict[str, Any]  # corpus.json
    params: dict[str, dict[str, Any]]  # params.yaml
    metrics: dict[str, float | int]
    curve: pd.DataFrame
    by_position: pd.DataFrame
    calibration: pd.DataFrame
    environment: dict[str, Any]
    hashes: dict[str, str]
    seen: Predictions
    samples: Marked
    attention: list[Tensor]
    attended: list[str]
    unit: str  # what a token is
    vocabulary: str  # how many of them it knows, in words
    unknown: bool  # whether one of them stands for all others


def attend(
    model: LanguageModel, tokenizer: Tokenizer, val: Tensor, prompt: str | None
) -> tuple[list[Tensor], list[str]]:
    """Give the attention maps of a prompt, or of the validation text's beginning, and the tokens that they are of."""
    length = min(MOST_ATTENDED, model.params.block_size)
    ids = val if prompt is None else torch.from_numpy(tokenizer.encode(prompt).astype(np.int64))
    ids = ids[:length].long()
    return attention_weights(model, ids.to(val.device)), [tokenizer.shown(each) for each in ids.tolist()]


def pictures(it: Material) -> dict[str, tuple[str, str]]:
    """Draw everything: by name, the SVG and what it says in words."""
    metrics = it.metrics
    bars = {"this model": metrics["val_loss"]}
    short = min(it.params["evaluate"]["short_block"], it.params["model"]["block_size"])
    bars[f"this model, in windows of {short}"] = metrics["short_block_val_loss"]
    bars |= anchors(it)
    bars |= {
        "Kneser–Ney counting": metrics["kneser_ney_val_loss"],
        "counting pairs": metrics["bigram_val_loss"],
        f"counting {it.unit}s": metrics["unigram_val_loss"],
        "knowing nothing": metrics["uniform_val_loss"],
    }
    drawn = {
        "losses": (figures.losses(bars, it.unit), ", ".join(f"{name} {value:.4f}" for name, value in bars.items())),
        "curve": (
            figures.curve(it.curve, it.unit),
            f"validation loss from {it.curve['val_loss'].iloc[0]:.3f} to {it.curve['val_loss'].iloc[-1]:.3f}",
        ),
        "by_position": (
            figures.by_position(it.by_position, it.unit),
            f"loss at the first position {it.by_position['val_loss'].iloc[0]:.3f}, at the last "
            f"{it.by_position['val_loss'].iloc[-1]:.3f}",
        ),
        "probabilities": (
            figures.probabilities(it.seen.log_p.double().exp().numpy(), it.unit),
            f"half of the {it.unit}s had a probability above {float(it.seen.log_p.exp().median()):.3f}",
        ),
        "calibration": (
            figures.calibration(it.calibration, it.unit),
            f"confidence and accuracy differ by {metrics['calibration_error']} on average",
        ),
    }
    if it.attention:
        shown = it.attention[: max(1, MOST_MAPS // len(it.attention[0]))]
        signs = [difficulty.visible(each) for each in it.attended]
        drawn["attention"] = (
            figures.attention(shown, signs),
            f"attention of {len(shown)} layers and {len(shown[0])} heads over {len(signs)} {it.unit}s",
        )
    return drawn


def anchors(it: Material) -> dict[str, float]:
    """Give the published losses that this one may stand beside: of the same text, per character."""
    return ANCHORS if it.about["name"] == "tinyshakespeare" and it.unit == "character" else {}


def page(it: Material, drawn: dict[str, tuple[str, str]], params: ReportParams, tokenizer: Tokenizer) -> str:
    """Write the page as HTML."""
    bits = -it.seen.log_p.double().numpy() / np.log(2)
    ids = it.seen.ids.numpy()
    hard, contexts = (
        difficulty.of_tokens(ids, bits, tokenizer),
        difficulty.of_contexts(ids, bits, tokenizer),
    )
    return template("report.html.j2").render(
        it=it,
        anchors=anchors(it),
        pictures={name: figures.inline(svg, name, label) for name, (svg, label) in drawn.items()},
        tables=[
            (title, rows)
            for names, table in (
                ((f"Hardest {it.unit}s", f"Easiest {it.unit}s"), hard),
                (("Hardest after these three", "Easiest after these three"), contexts),
            )
            for title, rows in zip(names, difficulty.ends(table), strict=True)
        ],
        characters=surprise.characters(it.seen, tokenizer, params.characters),
        details=Markup(surprise.details(it.seen, tokenizer, params.characters)),
        levels=surprise.LEVELS,
        attended=difficulty.visible("".join(it.attended)),
    )


def card(it: Material) -> str:
    """Write the model card as Markdown."""
    return template("model_card.md.j2").render(it=it)


def template(name: str) -> Template:
    """Find a template of this folder; HTML is escaped."""
    environment = Environment(
        loader=PackageLoader("stages.report", "templates"),
        autoescape=lambda each: bool(each and ".html" in each),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def read_table(path: Path) -> pd.DataFrame:
    """Read a TSV that a stage wrote."""
    return pd.read_csv(path, sep="\t")
