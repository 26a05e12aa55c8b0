"""Runs as DVC knows them: parameters, metrics, learning curve and machine of a revision."""

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
    """One run. `machine` and `curve` are None where they lie in no cache that can be reached."""

    name: str
    params: dict[str, Any]  # by "section.key"
    metrics: dict[str, float]
    curve: pd.DataFrame | None
    machine: dict[str, Any] | None


def read_runs(revisions: list[str]) -> list[Run]:
    """Read the runs of some revisions, each once.

    Raises:
        InputError: naming a revision that is not known, or that has no metrics.
    """
    return [read_run(each) for each in dict.fromkeys(revisions)]


def read_run(revision: str) -> Run:
    """Read one run; see `read_runs`."""
    if not revision:
        raise InputError("a revision is '': give an experiment, a branch, a tag, a commit, or `workspace`")
    rev = None if revision == WORKSPACE else revision
    try:
        params = dict(flat(dvc.api.params_show(rev=rev, stages=["download", "tokenize", "train", "evaluate"])))
        metrics = dict(flat(dvc.api.metrics_show(rev=rev)))
    except (DvcException, SCMError, OSError, AttributeError) as error:  # the last: what is no commit, as HEAD:file
        reason = " ".join(str(error).split())
        raise InputError(
            f"'{revision}' cannot be read ({reason}); `dvc exp list` and `git branch` name what there is, "
            f"`workspace` is what lies here"
        ) from None
    figures = {key: float(value) for key, value in metrics.items() if isinstance(value, int | float)}
    if not figures:
        raise InputError(f"'{revision}' has no metrics; `dvc repro` there first")
    about = read("data/raw/corpus.json", rev)
    if about is not None:
        text = json.loads(about)
        params["text"] = f"{text['name']} {text['sha256'][:8]}"
    curve, config = read("reports/train.tsv", rev), read("models/config.json", rev)
    return Run(
        name=revision,
        params=params,
        metrics=figures,
        curve=None if curve is None else pd.read_csv(io.StringIO(curve), sep="\t"),
        machine=None if config is None else json.loads(config)["training"].get("environment"),
    )


def read(path: str, rev: str | None) -> str | None:
    """Read a file of a revision, or None where it cannot be had: not in the cache, say."""
    try:
        if rev is None:
            return Path(path).read_text(encoding="utf-8")
        text: str = dvc.api.read(path, rev=rev)
    except (DvcException, SCMError, OSError):
        return None
    return text


def flat(document: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Give the leaves of nested sections, with names like `model.n_embd`."""
    for key, value in document.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
