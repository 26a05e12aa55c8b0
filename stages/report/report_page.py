"""Render the report and the model card from the results of the other stages."""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from stages.core.display import escape_controls, hide_secrets
from stages.metrics.memorization import LARGELY_COPIED
from stages.metrics.prediction_file import Predictions
from stages.report import difficulty, figures, highlighting
from stages.report.sample_overlap import MarkedSamples, one_break_per_line
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.token_files import SMALL_TEXT

# Published losses on tinyshakespeare, estimated on random batches (nanoGPT's README).
PUBLISHED_LOSSES = {"nanoGPT, CPU, minutes (published)": 1.88, "nanoGPT, A100, 3 min (published)": 1.4697}
MAX_ATTENTION_MAPS = 24
SHOWN_METRICS = {
    "val_loss", "train_loss", "short_block_val_loss", "sliding_val_loss", "adaptive_val_loss", "val_loss_per_character",
    "val_loss_per_byte", "val_bits_per_character", "val_bits_per_byte", "val_perplexity", "val_accuracy",
    "generalization_gap", "calibration_error", "parameters", "tokens_seen", "uniform_val_loss", "unigram_val_loss",
    "bigram_val_loss", "kneser_ney_val_loss", "copied_share", "longest_copy", "val_copied_share",
}  # fmt: skip


@dataclass(frozen=True)
class ReportData:
    """Everything that the report shows.

    Attributes:
        provenance: corpus.json.
        params: sections of params.yaml; `model` and `train` are those of the trained model.
        auto_keys: which of them were chosen automatically, as "section.key".
        train_tokens: length of the training text.
        val_tokens: length of the validation text.
        metrics: metrics.json.
        curve: learning curve.
        by_position: loss at each position of a window.
        calibration: confidence and accuracy.
        environment: environment of the training.
        digests: sha256 of the files that the results come from, by name.
        predictions: predictions of the validation text.
        first_token_id: the first token of the validation text, which has no context and is not predicted.
        samples: generated text, with copied parts marked.
        unit: what a token is.
        vocabulary: the vocabulary in words.
        has_unknown: whether a token stands for all unknown characters.
    """

    provenance: dict[str, Any]
    params: dict[str, dict[str, Any]]
    auto_keys: list[str]
    train_tokens: int
    val_tokens: int
    metrics: dict[str, float | int]
    curve: pd.DataFrame
    by_position: pd.DataFrame
    calibration: pd.DataFrame
    environment: dict[str, Any]
    digests: dict[str, str]
    predictions: Predictions
    first_token_id: int
    samples: MarkedSamples
    unit: str
    vocabulary: str
    has_unknown: bool

    @property
    def validation_repeats_training(self) -> bool:
        """Return whether most of the validation text occurs in the training text."""
        return self.metrics["val_copied_share"] > LARGELY_COPIED

    @property
    def is_small(self) -> bool:
        """Return whether the training text is too short for samples that do not repeat it."""
        return self.train_tokens < SMALL_TEXT

    @property
    def val_share(self) -> float:
        """Return the share of the tokens that are validation text."""
        return self.val_tokens / (self.train_tokens + self.val_tokens)

    @property
    def published_losses(self) -> dict[str, float]:
        """Return published losses that can be compared with this model's: of the same text, per character."""
        comparable = self.provenance["name"] == "tinyshakespeare" and self.unit == "character"
        return PUBLISHED_LOSSES if comparable else {}


@dataclass(frozen=True)
class LabelledFigure:
    """A figure as SVG, and a text alternative."""

    svg: str
    label: str


def draw_figures(data: ReportData, tokenizer: Tokenizer) -> dict[str, LabelledFigure]:
    """Return the figures of the report by name."""
    metrics, predictions, unit = data.metrics, data.predictions, data.unit
    of_model = {"this model": metrics["val_loss"]}
    if predictions.short_block_size < predictions.block_size:
        of_model[f"this model, in windows of {predictions.short_block_size}"] = metrics["short_block_val_loss"]
    losses = {
        **of_model,
        **data.published_losses,
        "Kneser–Ney": metrics["kneser_ney_val_loss"],
        "bigram": metrics["bigram_val_loss"],
        "unigram": metrics["unigram_val_loss"],
        "uniform": metrics["uniform_val_loss"],
    }
    val_losses, position_losses = data.curve["val_loss"], data.by_position["val_loss"]
    probabilities = np.exp(predictions.log_probs.astype(np.float64))
    drawn_figures = {
        "losses": LabelledFigure(
            figures.draw_losses(losses, unit, len(of_model)),
            ", ".join(f"{name} {value:.4f}" for name, value in losses.items()),
        ),
        "curve": LabelledFigure(
            figures.draw_curve(data.curve, unit),
            f"validation loss from {val_losses.iloc[0]:.3f} to {val_losses.iloc[-1]:.3f}",
        ),
        "by_position": LabelledFigure(
            figures.draw_by_position(data.by_position, unit),
            f"loss {position_losses.iloc[0]:.3f} at the first position, {position_losses.iloc[-1]:.3f} at the last",
        ),
        "probabilities": LabelledFigure(
            figures.draw_probabilities(probabilities, unit),
            f"the median probability of the actual {unit} is {np.median(probabilities):.3f}",
        ),
        "calibration": LabelledFigure(
            figures.draw_calibration(data.calibration, unit),
            f"expected calibration error {metrics['calibration_error']}",
        ),
    }
    attention = predictions.attention
    if len(attention):
        layers = attention[: max(1, MAX_ATTENTION_MAPS // attention.shape[1])]
        tokens = [difficulty.visible(tokenizer.display(token_id)) for token_id in predictions.attention_ids.tolist()]
        drawn_figures["attention"] = LabelledFigure(
            figures.draw_attention(layers, tokens),
            f"attention of {len(layers)} layers and {layers.shape[1]} heads over {len(tokens)} {unit}s",
        )
    return drawn_figures


def render_report(
    data: ReportData, drawn_figures: dict[str, LabelledFigure], tokenizer: Tokenizer, highlighted_count: int
) -> str:
    """Return the report as HTML.

    Args:
        data: everything that it shows.
        drawn_figures: figures by name.
        tokenizer: tokenizer of the model.
        highlighted_count: tokens of the validation text to show, highlighted by their loss.
    """
    predictions = data.predictions
    bits = -predictions.log_probs.astype(np.float64) / np.log(2)
    by_token = difficulty.bits_by_token(predictions.token_ids, bits, tokenizer)
    by_context = difficulty.bits_by_context(predictions.token_ids, bits, tokenizer)
    titles = (f"Hardest {data.unit}s", f"Easiest {data.unit}s"), ("Hardest contexts", "Easiest contexts")
    script = Path(__file__).with_name("templates").joinpath("report.js").read_text(encoding="utf-8")
    first_text, pieces = highlighting.find_pieces(predictions, tokenizer, highlighted_count, data.first_token_id)
    return load_template("report.html.j2").render(
        data=data,
        drawn_figures={name: figures.inline(drawn.svg, name, drawn.label) for name, drawn in drawn_figures.items()},
        tables=[
            (title, rows)
            for pair, table in zip(titles, (by_token, by_context), strict=True)
            for title, rows in zip(pair, difficulty.hardest_and_easiest(table), strict=True)
        ],
        first_text=highlighting.with_visible_breaks(first_text, pieces[0].text[:1] if pieces else ""),
        pieces=highlighting.highlighted_pieces(pieces, predictions),
        details=Markup(highlighting.piece_details(pieces, predictions, tokenizer)),
        levels=highlighting.LEVELS,
        samples=[one_break_per_line(sample) for sample in data.samples.samples],
        attention_text=difficulty.visible(tokenizer.display(*predictions.attention_ids.tolist())),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def render_model_card(data: ReportData) -> str:
    """Return the model card as Markdown."""
    return load_template("model_card.md.j2").render(data=data)


def load_template(name: str) -> Template:
    """Return a template of the report; HTML in values is escaped, also in Markdown, which may contain HTML."""
    environment = Environment(
        loader=PackageLoader("stages.report", "templates"),
        autoescape=lambda template_name: bool(template_name and ".html" in template_name),
        finalize=_escape_markdown if name.endswith(".md.j2") else None,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = format_metric
    return environment.get_template(name)


def format_metric(value: float) -> str:
    """Return an integer with separators of thousands, and any other number with four decimals."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _escape_markdown(value: object) -> object:
    return escape_controls(hide_secrets(value)).replace("<", "&lt;") if isinstance(value, str) else value
