"""The report stage: an HTML report, a model card and figures. It needs neither PyTorch nor the model's weights."""

from pathlib import Path

import click
from ruamel.yaml import YAML

from stages.core.display import hide_secrets
from stages.core.errors import TextError
from stages.core.files import sha256, write_text
from stages.core.logs import log, start_log
from stages.core.options import (
    FolioCommand,
    file_option,
    model_option,
    output_file_option,
    output_folder_option,
    params_option,
    tokens_option,
)
from stages.core.params import read_section
from stages.core.project import log_next_steps
from stages.core.records import Metrics, ModelConfig, Provenance, read_record
from stages.metrics.memorization import TrainingText
from stages.metrics.prediction_file import read_predictions
from stages.report.params import ReportParams
from stages.report.report_page import SHOWN_METRICS, ReportData, draw_figures, render_model_card, render_report
from stages.report.sample_overlap import mark_overlap, read_samples
from stages.report.tables import BY_POSITION_COLUMNS, CALIBRATION_COLUMNS, CURVE_COLUMNS, read_tsv
from stages.tokenizers.char import CharTokenizer
from stages.tokenizers.registry import load_tokenizer
from stages.tokenizers.token_files import TRAIN, VAL, load_tokens

WEIGHTS = "model.safetensors"
SHOWN_SECTIONS = ("download", "tokenize", "train", "evaluate", "sample", "report")  # as in dvc.yaml


@click.command(name="report", cls=FolioCommand)
@params_option
@file_option("--provenance", "provenance_path", "data/raw/corpus.json", "Where the text came from.")
@tokens_option
@model_option
@file_option("--metrics", "metrics_path", "reports/metrics.json", "The metrics.")
@file_option("--curve", "curve_path", "reports/train.tsv", "The learning curve.")
@file_option("--by-position", "by_position_path", "reports/loss_by_position.tsv", "The loss at each position.")
@file_option("--calibration", "calibration_path", "reports/calibration.tsv", "Confidence and accuracy.")
@file_option("--predictions", "predictions_path", "reports/predictions.safetensors", "The predictions.")
@file_option("--samples", "samples_path", "reports/samples.txt", "The samples.")
@output_file_option("--page", "page_path", "reports/report.html", "The file for the report.")
@output_file_option("--card", "card_path", "reports/model_card.md", "The file for the model card.")
@output_folder_option("--figures", "figures_folder", "reports/figures", "The folder for the figures.")
def command(
    params_path: Path,
    provenance_path: Path,
    tokens_folder: Path,
    model_folder: Path,
    metrics_path: Path,
    curve_path: Path,
    by_position_path: Path,
    calibration_path: Path,
    predictions_path: Path,
    samples_path: Path,
    page_path: Path,
    card_path: Path,
    figures_folder: Path,
) -> None:
    """Write an HTML report: losses, learning curve, calibration, difficult text, attention, samples and copied text.

    A model card and the figures as files are written too.

    Example: folio report --page reports/report.html
    """
    start_log("report")
    params = read_section(params_path, "report", ReportParams)
    model_config = read_record(model_folder / "config.json", ModelConfig, "train")
    tokenizer = load_tokenizer(model_folder / "tokenizer.json")
    train_ids, val_ids = load_tokens(tokens_folder, tokenizer)
    metrics = read_record(metrics_path, Metrics, "evaluate")
    if missing := sorted(SHOWN_METRICS - metrics.keys()):
        raise TextError(f"{metrics_path} has no {missing[0]}; run `dvc repro -f evaluate` to write it again")
    training = model_config.training
    document = YAML(typ="safe").load(params_path)
    shown_params = {name: dict(document.get(name) or {}) for name in SHOWN_SECTIONS}
    shown_params["download"] |= {"url": hide_secrets(str(shown_params["download"].get("url")))}
    samples = read_samples(samples_path)
    if not (model_folder / WEIGHTS).is_file():
        raise TextError(f"{model_folder / WEIGHTS} does not exist; run `dvc repro train` to write it")
    files = {"weights": model_folder / WEIGHTS} | {name: tokens_folder / name for name in (TRAIN, VAL)}
    data = ReportData(
        provenance=read_record(provenance_path, Provenance, "download").as_dict(),
        # Those of the trained model, even if params.yaml has changed.
        params=shown_params | {"model": model_config.model, "train": training.params},
        auto_keys=training.auto,
        train_tokens=len(train_ids),
        val_tokens=len(val_ids),
        metrics=metrics,
        curve=read_tsv(curve_path, CURVE_COLUMNS, "train"),
        by_position=read_tsv(by_position_path, BY_POSITION_COLUMNS, "evaluate"),
        calibration=read_tsv(calibration_path, CALIBRATION_COLUMNS, "evaluate"),
        environment=training.environment | {"budget": training.budget},
        digests={name: sha256(path) for name, path in files.items()},
        predictions=read_predictions(predictions_path, tokenizer),
        first_token_id=int(val_ids[0]),
        samples=mark_overlap(samples, TrainingText(train_ids, tokenizer)),
        unit=tokenizer.unit,
        vocabulary=f"{len(tokenizer)} {tokenizer.unit}s (kind {tokenizer.kind})",
        has_unknown=isinstance(tokenizer, CharTokenizer) and tokenizer.has_unknown,
    )
    drawn_figures = draw_figures(data, tokenizer)
    for name, drawn in drawn_figures.items():
        write_text(figures_folder / f"{name}.svg", drawn.svg)
    write_text(card_path, render_model_card(data))
    write_text(page_path, render_report(data, drawn_figures, tokenizer, params.highlighted_tokens))
    log.info("wrote the report to %s and the model card to %s", page_path, card_path)
    log_next_steps("report", page_path, f"open {page_path} in a browser")
