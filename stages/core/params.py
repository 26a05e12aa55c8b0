"""params.yaml, one section at a time, into strict and frozen models.

A stage reads its own sections only, so that a key of another stage's section changes nothing for it.
"""

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.core.errors import ParameterError


class Section(BaseModel):
    """A section: no unknown keys, no silent conversions, no NaN or infinity, no change after reading."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


S = TypeVar("S", bound=Section)


def read_section(path: Path, name: str, model: type[S]) -> S:
    """Read section `name` of the YAML file at `path`.

    Raises:
        ParameterError: naming the file, the key, its value and what would be right.
    """
    document = _read(path)
    if name not in document:
        known = ", ".join(map(str, document)) or "nothing"
        raise ParameterError(f"{path}: section '{name}' is missing (the file has: {known}); add it")
    return check_section(document[name], model, f"{path}: {name}")


def check_section(values: Any, model: type[S], where: str) -> S:  # noqa: ANN401 - whatever YAML or JSON held
    """Validate `values` as a `model`; `where` begins the message of the ParameterError that may follow."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [_explain(problem) for problem in error.errors()]
        raise ParameterError("; ".join(f"{where}{problem}" for problem in problems)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path} does not exist; run this in the project's folder, or give --params") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ParameterError(f"{path} must hold sections such as 'model:' and 'train:', not {document!r}")
    return document


def _explain(problem: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    key = "".join(f".{part}" for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{key} is missing; add it (params.yaml in the repository shows its meaning and range)"
    if problem["type"] == "extra_forbidden":
        return f"{key} is not a known key; remove it or correct its spelling"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{key}: {message}"
    value = problem["input"]
    return f"{key} is {value!r} ({type(value).__name__}): {message[0].lower()}{message[1:]}"
