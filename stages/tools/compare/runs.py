"""Read the parameters, metrics, learning curve and machine of a run from DVC."""

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from scmrepo.exceptions import SCMError

from stages.core.errors import InputError

WORKSPACE = "workspace"


@dataclass(frozen=True)
class Run:
    """A run.

    Attributes:
        name: the revision.
        params: parameters by "section.key".
        metrics: metrics by name.
        curve: learning curve; None if it is not in any cache that can be reached.
        machine: environment of the training; None if the model is not in any cache that can be reached.
    """

    name: str
    params: dict[str, Any]
    metrics: dict[str, float]
    curve: pd.DataFrame | None
    machine: dict[str, Any] | None


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
    try:
        params = dict(flatten(dvc.api.params_show(rev=rev, stages=["download", "tokenize", "train", "evaluate"])))
        metrics = dict(flatten(dvc.api.metrics_show(rev=rev)))
    except (
        DvcException,
        SCMError,
        OSError,
        AttributeError,
    ) as error:  # AttributeError: no commit
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{revision}' cannot be read ({reason}); `dvc exp list` and `git branch` list the revisions, "
            "`workspace` is the working tree"
        ) from None
    numbers = {key: float(value) for key, value in metrics.items() if isinstance(value, int | float)}
    if not numbers:
        raise InputError(f"'{revision}' has no metrics; run `dvc repro` there first")
    provenance = read_file("data/raw/corpus.json", rev)
    if provenance is not None:
        text = json.loads(provenance)
        params["text"] = f"{text['name']} {text['sha256'][:8]}"
    curve, config = read_file("reports/train.tsv", rev), read_file("models/config.json", rev)
    return Run(
        name=revision,
        params=params,
        metrics=numbers,
        curve=None if curve is None else pd.read_csv(io.StringIO(curve), sep="\t"),
        machine=None if config is None else json.loads(config)["training"].get("environment"),
    )


def read_file(path: str, rev: str | None) -> str | None:
    """Return the content of a file in a revision, or None if it is not available, for example not in the cache."""
    try:
        if rev is None:
            return Path(path).read_text(encoding="utf-8")
        text: str = dvc.api.read(path, rev=rev)
    except (DvcException, SCMError, OSError):
        return None
    return text


def flatten(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested sections with names such as `model.n_embd`."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
