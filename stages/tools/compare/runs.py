"""Read the parameters, metrics, learning curve and machine of a run from DVC."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from ruamel.yaml import YAML
from scmrepo.exceptions import SCMError

from stages.core.display import printable
from stages.core.errors import InputError, TextError
from stages.core.records import ModelConfig, Provenance, parse_record
from stages.report.tables import CURVE_COLUMNS, read_tsv

WORKSPACE = "workspace"
R = TypeVar("R")


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        name: the revision.
        params: parameters by "section.key".
        metrics: metrics by name.
        curve: learning curve; None if it is damaged, or not in any cache that can be reached.
        machine: environment of the training; None if the model is not in any cache that can be reached.
        text_name: name of the text; None if its provenance is not in any cache that can be reached.
    """

    name: str
    params: dict[str, Any]
    metrics: dict[str, float]
    curve: pd.DataFrame | None
    machine: dict[str, Any] | None
    text_name: str | None = None


def read_runs(revisions: list[str]) -> list[Run]:
    """Return the runs of several revisions, without duplicates; see `read_run`."""
    return [read_run(revision) for revision in dict.fromkeys(revisions)]


def read_run(revision: str) -> Run:
    """Return the run of a revision.

    Raises:
        InputError: if the revision does not exist or has no metrics.
    """
    if not revision:
        raise InputError("a revision is '': use an experiment, a branch, a tag, a commit, or `workspace`")
    rev = None if revision == WORKSPACE else revision
    if not Path("dvc.yaml").exists():
        raise InputError(f"{Path.cwd()} has no dvc.yaml; run this in the project folder")
    try:
        params = dict(flatten(dvc.api.params_show(rev=rev, stages=["download", "tokenize", "train", "evaluate"])))
        metrics = dict(flatten(dvc.api.metrics_show(rev=rev)))
    except (DvcException, SCMError, OSError, AttributeError) as error:
        # AttributeError: there is no commit.
        if isinstance(error, FileNotFoundError):
            raise InputError(
                f"'{revision}' has no results: it lacks {error.filename}; run `dvc repro` and commit its results"
            ) from None
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{revision}' cannot be read ({reason}); `dvc exp list` and `git branch` list the revisions, "
            "`workspace` is the working tree"
        ) from None
    numbers = {key: float(value) for key, value in metrics.items() if isinstance(value, int | float)}
    if not numbers:
        raise InputError(f"'{revision}' has no metrics; run `dvc repro` there first")
    params |= read_inputs(rev)
    provenance = read_record_of(rev, "data/raw/corpus.json", Provenance)
    curve, config = read_curve(rev), read_record_of(rev, "models/config.json", ModelConfig)
    return Run(
        name=printable(revision),  # a name in git need not be UTF-8
        params=params,
        metrics=numbers,
        curve=curve,
        machine=None if config is None else config.training.environment,
        text_name=None if provenance is None else printable(provenance.name),
    )


def read_inputs(rev: str | None) -> dict[str, str]:
    """Return the inputs of a run other than parameters, by name; digests are from dvc.lock, which needs no cache."""
    stages = (YAML(typ="safe").load(read_file("dvc.lock", rev) or "") or {}).get("stages", {})
    train, tokenize = (stages.get(name, {}).get("deps", []) for name in ("train", "tokenize"))
    digests = {dependency["path"]: str(dependency.get("md5", ""))[:8] for dependency in (*tokenize, *train)}
    inputs = {
        "text": digests.get("data/raw/corpus.txt", ""),
        "tokenizer": digests.get("data/tokens/tokenizer.json", ""),
    }
    code = "".join(digest for path, digest in sorted(digests.items()) if path.startswith("stages/"))
    inputs["code"] = hashlib.md5(code.encode()).hexdigest()[:8] if code else ""
    return {name: value for name, value in inputs.items() if value}


def read_curve(rev: str | None) -> pd.DataFrame | None:
    """Return the learning curve of a revision, or None if it is not available or damaged."""
    content = read_file("reports/train.tsv", rev)
    try:
        return None if content is None else read_tsv(io.StringIO(content), CURVE_COLUMNS, "train")
    except TextError:
        return None


def read_record_of(rev: str | None, path: str, kind: type[R]) -> R | None:
    """Return a JSON document of a revision, or None if it is not available or of another version of Folio."""
    content = read_file(path, rev)
    try:
        return None if content is None else parse_record(content, kind, Path(path), "", InputError)
    except InputError:
        return None


def read_file(path: str, rev: str | None) -> str | None:
    """Return the content of a file in a revision, or None if it is not available, for example not in the cache."""
    try:
        if rev is None:
            return Path(path).read_text(encoding="utf-8")
        here = Path.cwd()
        top = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
        text: str = dvc.api.read((here.relative_to(top) / path).as_posix(), rev=rev)  # relative to git's folder
    except Exception:  # each kind of storage has errors of its own
        return None
    return text


def flatten(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested sections with names such as `model.n_embd`."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
