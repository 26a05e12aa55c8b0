"""A trained model as a self-contained folder: weights, configuration, tokenizer, and a manifest of their digests."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from safetensors.torch import save as serialize
from torch import Tensor

from stages.core.errors import ModelError, ParameterError, WorkError
from stages.core.files import json_bytes, write_bytes, write_json
from stages.core.params import check_section
from stages.core.records import ModelConfig, TrainingRecord, parse_record
from stages.models.base import LanguageModel, build_model
from stages.models.params import ModelParams
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.registry import parse_tokenizer

FORMAT = 6
WEIGHTS, CONFIG, TOKENIZER, MANIFEST = "model.safetensors", "config.json", "tokenizer.json", "manifest.json"
HOW_TO_RESTORE = "`dvc checkout --force` restores what DVC recorded last, or train again"


@dataclass(frozen=True)
class TrainedModel:
    """The content of a model folder.

    Attributes:
        model: the model, in evaluation mode.
        tokenizer: tokenizer of the training text.
        training: how the model was trained.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    training: TrainingRecord


def save_model(folder: Path, model: LanguageModel, tokenizer: Tokenizer, training: TrainingRecord) -> None:
    """Write a model folder; the manifest is written last, so a folder with a manifest is complete.

    The digests are of the bytes in memory, not of the files. If two processes write to one folder, the mixture of their
    files is therefore rejected.

    Args:
        folder: where to write; it is created if it does not exist.
        model: the model.
        tokenizer: tokenizer of the training text.
        training: how the model was trained.

    Raises:
        WorkError: if a weight is infinite or NaN.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if name := first_nonfinite(weights):
        raise WorkError(f"the weight {name} is infinite or NaN; no model was saved. Try a smaller train.lr")
    config = ModelConfig(format=FORMAT, model=model.params.model_dump(), training=training).model_dump()
    # The largest file first, so that a full disk leaves nothing.
    contents = {WEIGHTS: serialize(weights), CONFIG: json_bytes(config), TOKENIZER: json_bytes(tokenizer.as_document())}
    for name, content in contents.items():
        write_bytes(folder / name, content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    write_json(folder / MANIFEST, {"sha256": digests})


def load_model(folder: Path) -> TrainedModel:
    """Return the model in a folder.

    Raises:
        ModelError: if a file is missing, differs from its digest in the manifest, or does not match the others.
    """
    contents = read_files(folder)
    tokenizer = parse_tokenizer(contents[TOKENIZER], folder / TOKENIZER)
    config = parse_record(contents[CONFIG], ModelConfig, folder / CONFIG, "train again", ModelError)
    if config.format != FORMAT:
        raise ModelError(
            f"{folder / CONFIG} has format {config.format}, but this version of Folio reads format {FORMAT}; "
            "train again"
        )
    try:
        params = check_section(config.model, ModelParams, f"{folder / CONFIG}: model")
        model = build_model(params, len(tokenizer))
        weights = load(contents[WEIGHTS])
        if name := first_nonfinite(weights):
            raise ValueError(f"the weight {name} is infinite or NaN")
        model.load_state_dict(weights)
    except (ValueError, RuntimeError, ParameterError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"{folder} is not a model that this version of Folio can read ({reason}); train again"
        ) from None
    return TrainedModel(model.eval(), tokenizer, config.training)


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a model folder, each of which has the digest that the manifest names.

    Raises:
        ModelError: if a file is missing or damaged; the message names the file.
    """
    if not folder.is_dir():
        raise ModelError(
            f"there is no folder {folder.absolute()}; run this in the project folder, or name the folder of a model. "
            "`dvc repro train` trains one"
        )
    manifest = folder / MANIFEST
    try:
        content = manifest.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{folder} has no model ({MANIFEST} is missing); `dvc repro train` trains one") from None
    digests = parse_record(content, dict[str, dict[str, str]], manifest, HOW_TO_RESTORE, ModelError).get("sha256", {})
    contents = {}
    for name in (WEIGHTS, CONFIG, TOKENIZER):
        try:
            contents[name] = (folder / name).read_bytes()
        except FileNotFoundError:
            raise ModelError(f"{folder / name} is missing; {HOW_TO_RESTORE}") from None
        if hashlib.sha256(contents[name]).hexdigest() != digests.get(name):
            raise ModelError(f"{folder / name} is damaged: its sha256 differs from the manifest; {HOW_TO_RESTORE}")
    return contents


def first_nonfinite(weights: dict[str, Tensor]) -> str | None:
    """Return the name of the first tensor with an infinite or NaN value."""
    return next((name for name, weight in weights.items() if not weight.isfinite().all()), None)
