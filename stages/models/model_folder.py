"""A trained model as a self-contained folder: weights, configuration, tokenizer, and a manifest of their digests."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from stages.core.errors import ModelError, ParameterError
from stages.core.files import sha256, write_bytes, write_json
from stages.core.params import check_section
from stages.models.base import LanguageModel, build_model
from stages.models.params import ModelParams
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.registry import load_tokenizer

FORMAT = 4
WEIGHTS, CONFIG, TOKENIZER, MANIFEST = "model.safetensors", "config.json", "tokenizer.json", "manifest.json"
HOW_TO_RESTORE = "`dvc checkout` restores it, or train again"


@dataclass(frozen=True)
class TrainedModel:
    """The content of a model folder.

    Attributes:
        model: in evaluation mode.
        tokenizer: of the training text.
        training: steps, tokens_seen, environment and parameters of the training, and which of them were automatic.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    training: dict[str, Any]


def save_model(folder: Path, model: LanguageModel, tokenizer: Tokenizer, training: dict[str, Any]) -> None:
    """Write a model folder; the manifest is written last, so a folder with a manifest is complete."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(folder / WEIGHTS, serialize(weights))
    config = {"format": FORMAT, "model": model.params.model_dump(), "training": training}
    write_json(folder / CONFIG, config)
    tokenizer.save(folder / TOKENIZER)
    digests = {name: sha256(folder / name) for name in (CONFIG, TOKENIZER, WEIGHTS)}
    write_json(folder / MANIFEST, {"sha256": digests})


def load_model(folder: Path) -> TrainedModel:
    """Return the model in a folder.

    Raises:
        ModelError: if a file is missing, differs from its digest in the manifest, or does not match the others.
    """
    check_manifest(folder)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["format"] != FORMAT:
            raise ModelError(
                f"{folder / CONFIG} has format {config['format']}, but this version of Folio reads format {FORMAT}; "
                "train again"
            )
        params = check_section(config["model"], ModelParams, f"{folder / CONFIG}: model")
        model = build_model(params, len(tokenizer))
        model.load_state_dict(_load_weights(folder / WEIGHTS))
    except (ValueError, KeyError, TypeError, RuntimeError, ParameterError) as error:
        raise ModelError(
            f"{folder} is not a model that this version of Folio can read ({error}); train again"
        ) from None
    return TrainedModel(model.eval(), tokenizer, config["training"])


def check_manifest(folder: Path) -> None:
    """Compare every file of a model folder with its digest.

    Raises:
        ModelError: if a file is missing or damaged; the message names the file.
    """
    manifest = folder / MANIFEST
    try:
        digests: dict[str, str] = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
    except FileNotFoundError:
        raise ModelError(f"{folder} has no model ({MANIFEST} is missing); `dvc repro train` trains one") from None
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{manifest} is damaged; {HOW_TO_RESTORE}") from None
    for name in (WEIGHTS, CONFIG, TOKENIZER):
        path = folder / name
        if not path.exists():
            raise ModelError(f"{path} is missing; {HOW_TO_RESTORE}")
        if sha256(path) != digests.get(name):
            raise ModelError(f"{path} is damaged: its sha256 differs from the manifest; {HOW_TO_RESTORE}")


def _load_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged ({error}); {HOW_TO_RESTORE}") from None
