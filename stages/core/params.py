"""Read one section of params.yaml into a frozen, strictly typed model.

A stage checks the whole file before it begins, but its result depends on its own sections only.
"""

import difflib
import os
import reprlib
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from stages.core.errors import ParameterError
from stages.core.records import Record

# Keys of version 0.1, and what replaced them; None if nothing did.
RENAMED_KEYS: dict[str, str | None] = {
    "tokenize.vocabulary_size": "tokenize.vocab_size",
    "tokenize.vocabulary": "tokenize.tokenizer",
    "model.window": "model.sliding_window",
    "model.order": "model.ngram_order",
    "model.folds": "model.cross_fit_folds",
    "model.recent": "model.cache_lm",
    "train.accumulate": "train.grad_accum_steps",
    "train.decay_fraction": "train.lr_decay_fraction",
    "train.clip_norm": "train.grad_clip",
    "train.average": "train.ema_decay",
    "train.log_every": "runtime.log_every",
    "train.checkpoint_every": "runtime.checkpoint_every_seconds",
    "train.checkpoint_steps": "runtime.checkpoint_every_steps",
    "train.sample_every": "runtime.sample_every",
    "train.track": "runtime.trackers",
    "train.shard": None,
    "evaluate.short_block": "evaluate.short_block_size",
    "sample.count": "sample.num_samples",
    "sample.length": "sample.max_new_tokens",
    "report.prompt": "evaluate.attention_prompt",
    "report.characters": "report.highlighted_tokens",
    "report.statistics": "evaluate.prediction_tokens",
}

# Every section and its class, which is imported by name, so that a stage depends on its own sections only.
SECTIONS = {
    "compute": "stages.core.compute_params:ComputeParams",
    "download": "stages.download.params:DownloadParams",
    "tokenize": "stages.tokenize.params:TokenizeParams",
    "model": "stages.models.params:ModelParams",
    "train": "stages.train.params:TrainParams",
    "runtime": "stages.train.params:RuntimeParams",
    "evaluate": "stages.evaluate.params:EvaluateParams",
    "sample": "stages.sample.params:SampleParams",
    "report": "stages.report.params:ReportParams",
}
MAX_BUDGET = 1_000_000  # minutes
MAX_INTEGER = 2**62
FilePath = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]

YAML_NAMES = {None: "null", True: "true", False: "false"}
PLAIN_MESSAGES = {  # what is allowed, by the type of a problem, if Pydantic's words are those of Python
    "dict_type": 'it must be a mapping, such as {"*.md": 1.0}', "list_type": "it must be a list, in square brackets",
    "bool_type": "it must be true or false", "too_short": "it must not be empty",
}  # fmt: skip
AUTO = "auto"
PARTIAL = "partial"  # validation context: some keys are still to be chosen, so keys are not compared with each other


class Section(Record):
    """Base class of all sections.

    Attributes:
        auto_keys: keys that may be `auto` in params.yaml, and are if they are missing.
    """

    auto_keys: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _check_integers(self) -> Self:
        for name, value in self:
            if isinstance(value, int) and abs(value) > MAX_INTEGER:
                raise ValueError(f"{name} is {shorten_repr(value)}: it must be at most {MAX_INTEGER}")
        return self


S = TypeVar("S", bound=Section)


def check_file(path: Path) -> None:
    """Check every section of params.yaml, so that a mistake is found before the first stage and not by the last one.

    Keys that depend on others which are `auto` are checked where these are chosen.

    Raises:
        ParameterError: as `read_section`. A section may be missing, unless DVC runs this: then every stage will follow.
    """
    document = _read_yaml(path)
    read_budget(path)
    known = ("budget", *SECTIONS)
    for name in document:  # a section of the user's own is ignored
        similar = difflib.get_close_matches(str(name), known, 1, cutoff=0.7)
        if name not in known and similar and similar[0] not in document:
            raise ParameterError(f"{path}: {shorten_repr(name)} is not a known name; did you mean {similar[0]}?")
    for name, place in SECTIONS.items():
        if name in document or "DVC_STAGE" in os.environ:
            module, _, class_name = place.partition(":")
            read_explicit(path, name, getattr(import_module(module), class_name))


def read_section(path: Path, name: str, section_class: type[S]) -> S:
    """Return section `name` of the YAML file at `path`; keys that are missing have their defaults.

    Raises:
        ParameterError: if the file or the section is missing, or a value is invalid. The message names the file, the
            key, the value and what is allowed.
    """
    return check_section(_read_values(path, name), section_class, f"{path}: {name}")


def read_explicit(path: Path, name: str, section_class: type[S]) -> dict[str, Any]:
    """Return the values of a section, valid one by one, without those that are `auto` or missing and may be.

    Raises:
        ParameterError: as `read_section`.
    """
    values = _read_values(path, name)
    if isinstance(values, dict):
        values = without_auto(values, section_class)
    explicit = check_section(values, section_class, f"{path}: {name}", PARTIAL).model_dump()
    return {key: value for key, value in explicit.items() if key in values or key not in section_class.auto_keys}


def without_auto(values: dict[str, Any], section_class: type[Section]) -> dict[str, Any]:
    """Return the values of a section without those that are `auto` and may be."""
    return {key: value for key, value in values.items() if not (key in section_class.auto_keys and value == AUTO)}


def read_budget(path: Path) -> float:
    """Return `budget`, the minutes of training on the reference machine.

    Raises:
        ParameterError: if it is not a positive number.
    """
    value = _read_yaml(path).get("budget", 1)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_BUDGET:
        raise ParameterError(
            f"{path}: budget is {shorten_repr(value)}: it must be a number of minutes above 0, such as 1 or 0.5, and "
            f"at most {MAX_BUDGET}"
        )
    return float(value)


def read_value(path: Path, section: str, key: str) -> Any:  # noqa: ANN401 - whatever YAML held
    """Return one value of a file that `check_file` has checked, or None if it is missing."""
    return (_read_yaml(path).get(section) or {}).get(key)


def check_section(values: Any, section_class: type[S], where: str, context: str | None = None) -> S:  # noqa: ANN401 - whatever YAML or JSON held
    """Return `values` validated as a `section_class`; with context PARTIAL without comparing keys with each other.

    Raises:
        ParameterError: if a value is invalid; the message begins with `where`.
    """
    try:
        return section_class.model_validate(values, context=context)
    except ValidationError as error:
        auto_keys = section_class.auto_keys if context == PARTIAL else frozenset()
        problems = [_explain(problem, where, auto_keys, section_class.model_fields) for problem in error.errors()]
        raise ParameterError("; ".join(f"{where}{problem}" for problem in problems)) from None


def _read_values(path: Path, name: str) -> Any:  # noqa: ANN401 - whatever YAML held
    document = _read_yaml(path)
    if name not in document:
        sections = ", ".join(map(str, document)) or "nothing"
        raise ParameterError(f"{path}: section '{name}' is missing (the file has: {sections}); add it")
    return {} if document[name] is None else document[name]  # an empty section


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        document = _parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParameterError(f"{path} does not exist; run this in the project folder, or set --params") from None
    except MarkedYAMLError as error:
        raise ParameterError(f"{path} is not valid YAML{_place_and_problem(error)}") from None
    except (YAMLError, ValueError, RecursionError) as error:  # ValueError: not UTF-8, or a number of 5,000 digits
        raise ParameterError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(document, dict):
        raise ParameterError(
            f"{path} must contain sections such as 'model:' and 'train:', not {shorten_repr(document)}"
        )
    return document


def _place_and_problem(error: MarkedYAMLError) -> str:
    """Return the line and the problem of a YAML error, as the end of a sentence."""
    mark = error.problem_mark or error.context_mark
    context = f"{error.context}: " if error.context else ""
    problem = f"{context}{error.problem}"
    if "'\\t'" in problem:
        problem = "a tab where only spaces are allowed; replace it"
    elif "duplicate key" in problem:
        problem = f"{str(error.problem).partition(' with value')[0]}; remove one of the two"
    return f" (line {mark.line + 1}): {problem}" if mark else f": {problem}"


@cache  # a stage reads several sections
def _parse_yaml(text: str) -> Any:  # noqa: ANN401 - whatever YAML held
    return YAML(typ="safe", pure=True).load(text)


def shorten_repr(value: object) -> str:
    """Return a value as YAML or Python writes it, shortened: YAML's aliases can make one that would fill the memory."""
    shortener = reprlib.Repr()
    shortener.maxlevel = 2
    shortener.maxstring = shortener.maxother = 100
    return YAML_NAMES[value] if value is None or isinstance(value, bool) else shortener.repr(value)


def _explain(problem: Any, where: str, auto_keys: frozenset[str], known_keys: Iterable[str]) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    key = "".join(f".{part}" for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        old_key = where.rpartition(" ")[2] + key  # "section.key"
        if old_key in RENAMED_KEYS:
            new_key = RENAMED_KEYS[old_key]
            return f"{key} is now {new_key}; rename it" if new_key else f"{key} was removed; delete it"
        similar = difflib.get_close_matches(key[1:], known_keys, 1, cutoff=0.7)
        advice = f"did you mean {similar[0]}?" if similar else "remove it or correct its spelling"
        return f"{key} is not a known key; {advice}"
    message = PLAIN_MESSAGES.get(
        problem["type"], problem["msg"].removeprefix("Value error, ").replace("Input should", "it must")
    )
    if problem["type"] == "value_error":
        return f"{key}: {message}"
    value = problem["input"]
    alternative = f", or {AUTO}" if key.removeprefix(".") in auto_keys else ""
    return f"{key} is {shorten_repr(value)} ({type(value).__name__}): {message[0].lower()}{message[1:]}{alternative}"
