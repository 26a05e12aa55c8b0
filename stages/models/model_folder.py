"""A model as a folder that needs nothing else: weights, what they are, their vocabulary, and sums of all three."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from stages.core import files
from stages.core.errors import ModelError, ParameterError
from stages.core.params import check_section
from stages.models.base import LanguageModel, build
from stages.models.params import ModelParams
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.registry import load_tokenizer

FORMAT = 1
WEIGHTS, CONFIG, TOKENIZER, MANIFEST = "model.safetensors", "config.json", "tokenizer.json", "manifest.json"


@dataclass(frozen=True)
class Saved:
    """A model out of its folder, ready to predict."""

    model: LanguageModel
    tokenizer: Tokenizer
    training: dict[str, Any]  # steps, tokens_seen


def save(
    folder: Path,
    model: LanguageModel,
    tokenizer: Tokenizer,
    training: dict[str, Any],
    weights: dict[str, Tensor] | None = None,
) -> None:
    """Write a model folder; the manifest comes last, so that a folder with one is whole.

    `weights` stands in for the model's own, where it does not hold all of them.
    """
    weights = model.state_dict() if weights is None else weights
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    files.write_bytes(folder / WEIGHTS, serialize(content))
    config = {"format": FORMAT, "model": model.params.model_dump(), "training": training}
    files.write_json(folder / CONFIG, config)
    tokenizer.save(folder / TOKENIZER)
    sums = {name: files.sha256(folder / name) for name in (CONFIG, TOKENIZER, WEIGHTS)}
    files.write_json(folder / MANIFEST, {"sha256": sums})


def load(folder: Path) -> Saved:
    """Read a model folder.

    Raises:
        ModelError: where a file is missing, differs from its sum in the manifest, or does not fit the others.
    """
    check_manifest(folder)
    tokenizer = load_tokenizer(folder / TOKENIZER)
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if config["format"] != FORMAT:
            raise ModelError(f"{folder / CONFIG} has format {config['format']}, this Folio reads {FORMAT}; train again")
        params = check_section(config["model"], ModelParams, f"{folder / CONFIG}: model")
        model = build(params, len(tokenizer))
        model.load_state_dict(_load_weights(folder / WEIGHTS))
    except (ValueError, KeyError, TypeError, RuntimeError, ParameterError) as error:
        raise ModelError(f"{folder} is not a model that this Folio can read ({error}); train again") from None
    return Saved(model.eval(), tokenizer, config["training"])


def check_manifest(folder: Path) -> None:
    """Compare every file of a model folder with its sum.

    Raises:
        ModelError: naming the file.
    """
    manifest = folder / MANIFEST
    try:
        sums: dict[str, str] = json.loads(manifest.read_text(encoding="utf-8"))["sha256"]
    except FileNotFoundError:
        raise ModelError(f"{folder} holds no model ({MANIFEST} is missing); `dvc repro train` makes one") from None
    except (ValueError, KeyError, TypeError):
        raise ModelError(f"{manifest} is damaged; `dvc checkout` or training again mends it") from None
    for name in (WEIGHTS, CONFIG, TOKENIZER):
        path = folder / name
        if not path.exists():
            raise ModelError(f"{path} is missing; `dvc checkout` or training again mends it")
        if files.sha256(path) != sums.get(name):
            raise ModelError(f"{path} is damaged: its sha256 is not the manifest's; `dvc checkout` mends it")


def _load_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ModelError(f"{path} is damaged ({error}); `dvc checkout` mends it") from None
