"""train: a model, from tensors and parameters."""

from pathlib import Path

import click
import torch

from stages.command import StageCommand, file_option, model_option, params_option, tokens_option
from stages.devices import prepare
from stages.logs import log, start_log
from stages.measuring.tables import write_tsv
from stages.models.base import build, count_parameters
from stages.models.store import save
from stages.params.base import read_section
from stages.params.compute import ComputeParams
from stages.params.model import ModelParams
from stages.params.train import TrainParams
from stages.text.tokenizer import CharTokenizer
from stages.text.tokens import check_length, load_tokens
from stages.training.loop import COLUMNS, Trainer


@click.command(name="train", cls=StageCommand)
@params_option
@tokens_option
@model_option
@file_option("--curve", "curve", "reports/train.tsv", "The file for the learning curve.")
def command(params_path: Path, tokens: Path, model_folder: Path, curve: Path) -> None:
    """Train the model that `model:` and `train:` in params.yaml describe.

    Example: folio train --tokens data/tokens --model models --curve reports/train.tsv
    """
    start_log("train")
    compute = read_section(params_path, "compute", ComputeParams)
    model_params = read_section(params_path, "model", ModelParams)
    params = read_section(params_path, "train", TrainParams)
    tokenizer = CharTokenizer.load(tokens / "tokenizer.json")
    train, val = load_tokens(tokens, tokenizer)
    check_length(train, val, model_params.block_size)
    device = prepare(compute)
    torch.manual_seed(params.seed)
    model = build(model_params, len(tokenizer)).to(device)
    log.info("%s: %d parameters on %s", model_params.kind, count_parameters(model), device)
    trainer = Trainer(model, train.to(device), val.to(device), params)
    trainer.run()
    training = {"steps": trainer.step_done, "tokens_seen": trainer.tokens_seen}
    write_tsv(curve, COLUMNS, trainer.table())
    save(model_folder, model, tokenizer, training)
    log.info("%s holds the model, %s its curve; next: folio evaluate, folio sample", model_folder, curve)


if __name__ == "__main__":
    command()
