"""Runs as columns: what differs, and by how much more than chance."""

import math
import statistics
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.tools.compare.runs import Run

SEED, JUDGED_BY = "train.seed", "val_loss"
CHANCE = 2.0  # standard errors


@dataclass(frozen=True)
class Group:
    """Runs that differ in seeds alone."""

    name: str
    runs: list[Run]

    def values(self, metric: str) -> list[float]:
        """Give a metric of each run that has it."""
        return [run.metrics[metric] for run in self.runs if metric in run.metrics]

    def mean(self, metric: str) -> float:
        """Give the mean, or not-a-number where no run has the metric."""
        values = self.values(metric)
        return sum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class Comparison:
    """`params`: those that differ, a column each group. `metrics`: means. `errors`: standard errors of the difference
    to the first column, not-a-number where no seeds tell. `notes`: what a reader must know.
    """

    params: pd.DataFrame
    metrics: pd.DataFrame
    errors: pd.DataFrame
    notes: list[str]

    def shown_metrics(self) -> pd.DataFrame:
        """Give means with their difference to the first column, and ~ where chance explains it.

        Metrics that are the same everywhere are left out, unless all are.
        """
        first = self.metrics.columns[0]
        shown = {first: self.metrics[first].map(number)}
        for name in self.metrics.columns[1:]:
            shown[name] = pd.Series(
                {metric: self._cell(metric, name, first) for metric in self.metrics.index}, dtype="object"
            )
        table = pd.DataFrame(shown)
        differing = table.nunique(axis=1) > 1
        return table[differing] if differing.any() else table

    def _cell(self, metric: str, name: str, first: str) -> str:
        value, other = self.metrics[name][metric], self.metrics[first][metric]
        difference, error = value - other, self.errors[name][metric]
        if not difference or math.isnan(difference):
            return number(value)
        by_chance = " ~" if abs(difference) < CHANCE * error else ""
        return f"{number(value)} ({'+' if difference > 0 else '-'}{number(abs(difference))}{by_chance})"

    def as_dict(self) -> dict[str, Any]:
        """Give it all for JSON; what is not known is null."""
        frames = {"params": self.params, "metrics": self.metrics, "standard_errors": self.errors}
        documents = {name: frame.astype(object).where(frame.notna(), None).to_dict() for name, frame in frames.items()}
        return documents | {"notes": self.notes}


def compare(runs: list[Run], together: bool = True) -> Comparison:
    """Compare runs with the first one; `together` makes one column of runs that differ in train.seed alone."""
    groups = grouped(runs) if together else [Group(run.name, [run]) for run in runs]
    names = [group.name for group in groups]
    keys = list(dict.fromkeys(key for run in runs for key in run.params))
    rows = {key: [said(group, key) for group in groups] for key in keys}
    differing = {key: row for key, row in rows.items() if len(set(row)) > 1}
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.metrics))
    means = pd.DataFrame(
        [[group.mean(each) for group in groups] for each in metrics], index=pd.Index(metrics), columns=pd.Index(names)
    )
    errors = pd.DataFrame(
        [[error(groups, group, each) for group in groups] for each in metrics],
        index=pd.Index(metrics),
        columns=pd.Index(names),
    )
    params = pd.DataFrame.from_dict(differing, orient="index", columns=pd.Index(names))
    return Comparison(params, means, errors, notes(groups))


def grouped(runs: list[Run]) -> list[Group]:
    """Put runs together that differ in seeds alone, in the order of the first of each."""
    found: list[list[Run]] = []
    for run in runs:
        for each in found:
            if others(each[0]) == others(run) and run.params.get(SEED) not in [it.params.get(SEED) for it in each]:
                each.append(run)
                break
        else:
            found.append([run])
    return [
        Group(each[0].name if len(each) == 1 else f"{each[0].name} and {len(each) - 1} more", each) for each in found
    ]


def others(run: Run) -> dict[str, Any]:
    """Give a run's parameters but for the seed."""
    return {key: value for key, value in run.params.items() if key != SEED}


def error(groups: list[Group], group: Group, metric: str) -> float:
    """Give the standard error of a group's difference to the first one.

    The deviation between seeds is pooled over all groups that have several; where none has, nothing is known.
    """
    squares, freedom = 0.0, 0
    for each in groups:
        values = each.values(metric)
        if len(values) > 1:
            squares += sum((value - each.mean(metric)) ** 2 for value in values)
            freedom += len(values) - 1
    counts = [len(each.values(metric)) for each in (group, groups[0])]
    if not freedom or not all(counts):
        return math.nan
    return math.sqrt(squares / freedom * sum(1 / count for count in counts))


def said(group: Group, key: str) -> str:
    """Show a parameter of a group: several seeds are all named."""
    return ", ".join(dict.fromkeys(str(run.params.get(key, "-")) for run in group.runs))


def seeds(group: Group) -> str:
    """Give a group's mean loss and the standard error of that mean."""
    values = group.values(JUDGED_BY)
    spread = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{group.name}: mean of {len(group.runs)} runs, {JUDGED_BY} {group.mean(JUDGED_BY):.4f} ± {spread:.4f}"


def notes(groups: list[Group]) -> list[str]:
    """Say what a table does not show: whether seeds tell of chance, and whether the machines differ."""
    runs = [run for group in groups for run in group.runs]
    several = [seeds(group) for group in groups if len(group.runs) > 1]
    found = [
        f"~ below {CHANCE:g} standard errors, by the differences between seeds; {'; '.join(several)}"
        if several
        else "one seed each: how much of a difference is chance is not known; run some with -S train.seed=…"
    ]
    if any(run.machine is None for run in runs):
        missing = [run.name for run in runs if run.machine is None]
        found.append(f"the machine of {', '.join(missing)} is not known: the model is in no cache here")
    known = [run.machine for run in runs if run.machine is not None]
    for key in sorted({key for each in known for key in each}):
        values = {run.name: run.machine.get(key) for run in runs if run.machine is not None}
        if len(set(map(str, values.values()))) > 1:
            found.append(f"{key} differs: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    return found


def number(value: float) -> str:
    """Show whole numbers whole and others with four decimals."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value == int(value) else f"{value:.4f}"
