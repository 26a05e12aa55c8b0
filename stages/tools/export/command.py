"""Export a trained model to other libraries."""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from stages.core.errors import InputError, WorkError
from stages.core.files import sha256, write_bytes
from stages.core.logs import log, start_log
from stages.core.options import FolioCommand, file_option, model_option, output_folder_option
from stages.core.project import install_command
from stages.models.model_folder import MANIFEST, WEIGHTS, load_model

CODE = "modeling_folio.py"
OPTIONAL_FILES = (CODE, "folio_*.py", "generation_config.json", "LICENSE")


@click.command(name="export", cls=FolioCommand)
@model_option
@click.option(
    "--to",
    "target",
    type=click.Choice(["huggingface"]),
    default="huggingface",
    show_default=True,
    help="The library to export to.",
)
@file_option("--card", "card_path", "reports/model_card.md", "The model card to include, if it exists.")
@output_folder_option(
    "--output", "output_folder", "exported", "The folder for the exported model: new, empty, or of an earlier export."
)
def command(model_folder: Path, target: str, card_path: Path, output_folder: Path) -> None:  # noqa: ARG001 - one choice
    """Export the model so that `transformers` opens it with AutoModelForCausalLM and AutoTokenizer.

    `lecture_gpt` becomes a GPT-2, `gpt` with `prior: none` and `sliding_window: 0` a NanoChat model. Every other model
    is exported together with its code, for `trust_remote_code=True`. Needs the extra `export`.

    Example: folio export --to huggingface --output exported
    """
    start_log("export")
    trained = load_model(model_folder)
    if (output_folder / MANIFEST).exists():
        raise InputError(f"{output_folder} contains a model of Folio, which would be replaced; choose another --output")
    check_output_folder(output_folder)
    if not find_spec("transformers"):
        raise WorkError(f"exporting needs the transformers library: {install_command('export')}")
    from stages.tools.export.huggingface import export_model

    card, digest = output_folder / "README.md", sha256(model_folder / WEIGHTS)
    with TemporaryDirectory(dir=".", prefix=".export.") as folder:
        # A file is replaced, never changed: it may be a link.
        export_model(trained, Path(folder))
        for pattern in OPTIONAL_FILES:  # of an earlier export of another model
            for leftover in output_folder.glob(pattern):
                leftover.unlink()
        for path in sorted(Path(folder).iterdir()):
            write_bytes(output_folder / path.name, path.read_bytes())
    if describes(card_path, digest):
        write_bytes(card, card_path.read_bytes())
    elif not describes(card, digest):
        card.unlink(missing_ok=True)  # of an earlier model
    argument = ", trust_remote_code=True" if (output_folder / CODE).exists() else ""
    log.info('%s: open it with AutoModelForCausalLM.from_pretrained("%s"%s)', output_folder, output_folder, argument)


def describes(card: Path, digest: str) -> bool:
    """Return whether a model card exists and names the digest of the weights."""
    return card.is_file() and digest in card.read_text(encoding="utf-8", errors="replace")


def check_output_folder(folder: Path) -> None:
    """Check that the folder is new, empty, or holds an exported model, whose config.json names a model type.

    Raises:
        InputError: if it holds other files.
    """
    config = folder / "config.json"
    is_exported = config.is_file() and b'"model_type"' in config.read_bytes()
    if folder.is_dir() and any(folder.iterdir()) and not is_exported:
        raise InputError(f"{folder} is not empty and does not hold an exported model; choose another --output")
