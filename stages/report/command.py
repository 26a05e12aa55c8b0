"""report: what the model learned, on one page that opens anywhere, and a model card."""

import json
from pathlib import Path
from typing import Any

import click
from ruamel.yaml import YAML

from stages.core import files
from stages.core.device import ComputeParams, prepare
from stages.core.errors import ParameterError, TextError
from stages.core.logs import log, start_log
from stages.core.options import (
    StageCommand,
    file_option,
    model_option,
    output_file_option,
    output_folder_option,
    params_option,
    tokens_option,
)
from stages.core.params import read_section
from stages.core.text_files import read_text
from stages.evaluate.predictions import predict
from stages.models.model_folder import load
from stages.report.page import Material, attend, card, page, pictures, read_table
from stages.report.params import ReportParams
from stages.report.samples import marked, split_samples
from stages.tokenizers.char import CharTokenizer
from stages.tokenizers.token_files import load_tokens, on_device


@click.command(name="report", cls=StageCommand)
@params_option
@file_option("--about", "about", "data/raw/corpus.json", "What is known of the text.")
@tokens_option
@model_option
@file_option("--metrics", "metrics", "reports/metrics.json", "The figures.")
@file_option("--curve", "curve", "reports/train.tsv", "The learning curve.")
@file_option("--by-position", "by_position", "reports/loss_by_position.tsv", "The loss at each position.")
@file_option("--calibration", "calibration", "reports/calibration.tsv", "Confidence beside accuracy.")
@file_option("--samples", "samples", "reports/samples.txt", "What the model wrote.")
@output_file_option("--page", "page_path", "reports/report.html", "The file for the page.")
@output_file_option("--card", "card_path", "reports/model_card.md", "The file for the model card.")
@output_folder_option("--images", "images", "reports/images", "The folder for the pictures as files.")
def command(
    params_path: Path,
    about: Path,
    tokens: Path,
    model_folder: Path,
    samples: Path,
    page_path: Path,
    card_path: Path,
    images: Path,
    **tables: Path,
) -> None:
    """Show what the model learned, where it fails and whether it copies: a page, a model card, pictures.

    Example: folio report --page reports/report.html
    """
    start_log("report")
    params = read_section(params_path, "report", ReportParams)
    saved = load(model_folder)
    train, val = load_tokens(tokens, saved.tokenizer)
    device = prepare(read_section(params_path, "compute", ComputeParams))
    saved.model.to(device)
    val = on_device(val, device)
    try:
        attention, attended = attend(saved.model, saved.tokenizer, val, params.prompt)
    except TextError as error:
        raise ParameterError(f"{params_path}: report.prompt is {params.prompt!r}: {error}") from None
    metrics = read_json(tables["metrics"])
    if "val_loss" not in metrics:
        raise TextError(f"{tables['metrics']} has no val_loss; `dvc repro -f evaluate` makes it again")
    document = {name: dict(section) for name, section in YAML(typ="safe").load(params_path).items()}
    it = Material(
        about=read_json(about),
        params=document | {"model": saved.model.params.model_dump()},  # what it is, whatever the file says by now
        metrics=metrics,
        curve=read_table(tables["curve"]),
        by_position=read_table(tables["by_position"]),
        calibration=read_table(tables["calibration"]),
        environment=saved.training.get("environment", {}),
        hashes={
            "the weights": files.sha256(model_folder / "model.safetensors"),
            "the tokens": files.sha256(tokens / "tokens.safetensors"),
        },
        seen=predict(saved.model, val, params.statistics),
        samples=marked(split_samples(read_text(samples, "`dvc repro sample` makes it")), train, saved.tokenizer),
        attention=attention,
        attended=attended,
        unit=saved.tokenizer.unit,
        vocabulary=f"{len(saved.tokenizer)} {saved.tokenizer.unit}s (kind {saved.tokenizer.kind})",
        unknown=isinstance(saved.tokenizer, CharTokenizer) and saved.tokenizer.unknown,
    )
    drawn = pictures(it)
    for name, (svg, _) in drawn.items():
        files.write_text(images / f"{name}.svg", svg)
    files.write_text(card_path, card(it))
    files.write_text(page_path, page(it, drawn, params, saved.tokenizer))
    log.info("%s shows what the model learned, %s says it in short", page_path, card_path)
    log.info("next: open %s in a browser", page_path)


def read_json(path: Path) -> dict[str, Any]:
    """Read what a stage before wrote.

    Raises:
        TextError: where it is not there or no JSON.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; `dvc repro` makes it") from None
    except ValueError as error:
        raise TextError(f"{path} is not JSON ({error}); `dvc repro -f` makes it again") from None
    return document
