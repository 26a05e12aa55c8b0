"""The JSON documents that one stage writes and another one reads, and how they are checked when they are read."""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from stages.core.errors import InputError, TextError

Value = str | int | float | bool | None | list[Any]
R = TypeVar("R")


class Record(BaseModel):
    """Base class of what is read from JSON or YAML: no unknown keys, type conversion, NaN or infinity; immutable."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Provenance(Record):
    """The content of corpus.json: the text, and where it came from.

    Attributes:
        source: url, mirror, own or built-in.
        copies: documents that were left out because they equal earlier ones.
        requested: name of the corpus in params.yaml; differs from `name` if a substitute was used.
        warning: what the use of a substitute means; None if there is none.
    """

    name: str
    source: str
    sha256: str
    bytes: int
    characters: int
    documents: int
    copies: int
    licence: str
    requested: str
    warning: str | None = None

    def as_dict(self) -> dict[str, str | int]:
        """Return the content of corpus.json."""
        return self.model_dump(exclude_none=True)


class TrainingRecord(Record):
    """How a model was trained; part of config.json.

    Attributes:
        environment: versions, device and precision, by name.
        params: section `train` of params.yaml, with every value chosen.
        auto: the settings that were chosen automatically, as "section.key".
        budget: minutes of training that they were chosen for.
        steps: optimizer steps.
        tokens_seen: tokens in all batches together.
    """

    environment: dict[str, Value] = {}
    params: dict[str, Value] = {}
    auto: list[str] = []
    budget: float = Field(default=1.0, gt=0)
    steps: int = Field(default=0, ge=0)
    tokens_seen: int = Field(default=0, ge=0)

    @property
    def max_tokens(self) -> int:
        """Return the training tokens that were used; 0: all."""
        value = self.params.get("max_tokens")
        return value if isinstance(value, int) else 0


class ModelConfig(Record):
    """The content of config.json.

    Attributes:
        format: format of the model folder.
        model: section `model` of params.yaml, with every value chosen.
        training: how the model was trained.
    """

    format: int
    model: dict[str, Value]
    training: TrainingRecord


Metrics = dict[str, FiniteFloat | int]  # the content of metrics.json


def read_record(path: Path, kind: type[R], writer: str) -> R:
    """Return the content of a JSON file that the stage `writer` wrote.

    Raises:
        TextError: if the file is missing, or not a document of this kind.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; run `dvc repro {writer}` to write it") from None
    return parse_record(content, kind, path, f"run `dvc repro -f {writer}` to write it again", TextError)


def parse_record(content: bytes | str, kind: type[R], path: Path, hint: str, error_type: type[InputError]) -> R:
    """Return the document in the content of a JSON file.

    Args:
        content: content of the file.
        kind: class of the document.
        path: path of the file, for error messages.
        hint: how to get a valid file, for error messages.
        error_type: class of the error.

    Raises:
        InputError: of the type `error_type`, if it is not JSON or not a document of this kind.
    """
    try:
        record: R = TypeAdapter(kind).validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"{part}: " for part in first["loc"])
        raise error_type(f"{path} is damaged or of another version ({place}{first['msg']}); {hint}") from None
    return record
