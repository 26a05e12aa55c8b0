"""export: a model for other tools."""

from importlib.util import find_spec
from pathlib import Path

import click

from stages.core import files
from stages.core.errors import WorkError
from stages.core.logs import log, start_log
from stages.core.options import StageCommand, file_option, model_option, output_folder_option
from stages.models.model_folder import WEIGHTS, load


@click.command(name="export", cls=StageCommand)
@model_option
@click.option("--to", "target", type=click.Choice(["huggingface"]), required=True, help="For which library.")
@file_option("--card", "card", "reports/model_card.md", "The model card that goes with it, where there is one.")
@output_folder_option("--output", "output", "exported", "The folder for the exported model.")
def command(model_folder: Path, target: str, card: Path, output: Path) -> None:
    """Write the model so that plain `transformers` opens it: AutoModelForCausalLM and AutoTokenizer, no code of ours.

    `lecture_gpt` becomes a GPT-2, and `gpt` with `prior: none` and `window: 0` a NanoChat. Needs the extra `export`.

    Example: folio export --to huggingface --output exported
    """
    start_log("export")
    saved = load(model_folder)
    if not find_spec("transformers"):
        raise WorkError("export needs the transformers library: pip install -e '.[export]'")
    from stages.tools.export.huggingface import export

    export(saved, output)
    if card.exists() and files.sha256(model_folder / WEIGHTS) in card.read_text(encoding="utf-8"):  # of this model
        files.write_bytes(output / "README.md", card.read_bytes())
    log.info('%s holds the model for %s: AutoModelForCausalLM.from_pretrained("%s")', output, target, output)
