"""Compare runs: which parameters and metrics differ, and whether seed noise explains the differences."""

import math
import statistics
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.core.display import printable
from stages.tools.compare.runs import Run

SEED, MAIN_METRIC = "train.seed", "val_loss"
NOISE_THRESHOLD = 2.0  # standard errors


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ only in their seeds."""

    name: str
    runs: list[Run]

    def values(self, metric: str) -> list[float]:
        """Return the values of a metric, of the runs that have it."""
        return [run.metrics[metric] for run in self.runs if metric in run.metrics]

    def mean(self, metric: str) -> float:
        """Return the mean of a metric, or NaN if no run has it."""
        values = self.values(metric)
        return sum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class Comparison:
    """Runs in columns, compared with the first column.

    Attributes:
        params: the parameters that differ.
        metrics: means of the metrics.
        standard_errors: standard errors of the difference to the first column; NaN if there are no repeated seeds.
        notes: what the reader should know.
    """

    params: pd.DataFrame
    metrics: pd.DataFrame
    standard_errors: pd.DataFrame
    notes: list[str]

    def formatted_metrics(self) -> pd.DataFrame:
        """Return the metrics as text with the difference to the first column; ~ marks differences within seed noise.

        Metrics that are equal in all columns are left out, unless all are equal.
        """
        first = self.metrics.columns[0]
        columns = {first: self.metrics[first].map(format_number)}
        for name in self.metrics.columns[1:]:
            columns[name] = pd.Series(
                {metric: self._format_cell(metric, name, first) for metric in self.metrics.index}, dtype="object"
            )
        table = pd.DataFrame(columns)
        differs = table.nunique(axis=1) > 1
        return table[differs] if differs.any() else table

    def _format_cell(self, metric: str, name: str, first: str) -> str:
        value, first_value = self.metrics[name][metric], self.metrics[first][metric]
        difference, standard_error = value - first_value, self.standard_errors[name][metric]
        if not difference or math.isnan(difference):
            return format_number(value)
        noise_mark = " ~" if abs(difference) < NOISE_THRESHOLD * standard_error else ""
        sign = "+" if difference > 0 else "-"
        return f"{format_number(value)} ({sign}{format_number(abs(difference))}{noise_mark})"

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison in JSON types; missing values are None."""
        frames = {"params": self.params, "metrics": self.metrics, "standard_errors": self.standard_errors}
        documents = {name: frame.astype(object).where(frame.notna(), None).to_dict() for name, frame in frames.items()}
        return documents | {"notes": self.notes}


def compare_runs(runs: list[Run], group_seeds: bool = True) -> Comparison:
    """Compare runs with the first one.

    Args:
        runs: the runs.
        group_seeds: whether runs that differ only in `train.seed` share a column, unless it would be the only one.
    """
    seed_groups = group_by_seed(runs)
    groups = seed_groups if group_seeds and len(seed_groups) > 1 else [RunGroup(run.name, [run]) for run in runs]
    columns = pd.Index([group.name for group in groups])
    keys = list(dict.fromkeys(key for run in runs for key in run.params))
    rows = {key: [format_param(group, key) for group in groups] for key in keys}
    differing = {key: [*map(printable, row)] for key, row in rows.items() if len(set(row)) > 1}
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.metrics))
    index = pd.Index(metrics)
    means = [[group.mean(metric) for group in groups] for metric in metrics]
    errors = [[difference_error(seed_groups, groups[0], group, metric) for group in groups] for metric in metrics]
    return Comparison(
        params=pd.DataFrame.from_dict(differing, orient="index", columns=columns),
        metrics=pd.DataFrame(means, index=index, columns=columns),
        standard_errors=pd.DataFrame(errors, index=index, columns=columns),
        notes=make_notes(seed_groups),
    )


def group_by_seed(runs: list[Run]) -> list[RunGroup]:
    """Return the runs in groups that differ only in their seeds, in the order of the first run of each."""
    groups: list[list[Run]] = []
    for run in runs:
        for group in groups:
            seeds = [member.params.get(SEED) for member in group]
            if params_without_seed(group[0]) == params_without_seed(run) and run.params.get(SEED) not in seeds:
                group.append(run)
                break
        else:
            groups.append([run])
    return [
        RunGroup(group[0].name if len(group) == 1 else f"{group[0].name} and {len(group) - 1} more", group)
        for group in groups
    ]


def params_without_seed(run: Run) -> dict[str, Any]:
    """Return the parameters of a run except the seed."""
    return {key: value for key, value in run.params.items() if key != SEED}


def difference_error(seed_groups: list[RunGroup], first: RunGroup, group: RunGroup, metric: str) -> float:
    """Return the standard error of the difference between a group and the first one; NaN for the first one itself.

    The variance between seeds is pooled over all of `seed_groups` with several seeds; without any, the result is NaN.
    """
    squares, degrees_of_freedom = 0.0, 0
    for other in seed_groups:
        values = other.values(metric)
        if len(values) > 1:
            squares += sum((value - other.mean(metric)) ** 2 for value in values)
            degrees_of_freedom += len(values) - 1
    counts = [len(other.values(metric)) for other in (group, first)]
    if group is first or not degrees_of_freedom or not all(counts):
        return math.nan
    return math.sqrt(squares / degrees_of_freedom * sum(1 / count for count in counts))


def format_param(group: RunGroup, key: str) -> str:
    """Return a parameter of a group as text; different seeds are all listed."""
    values = [run.params.get(key, "-") for run in group.runs]
    whole = (int(value) if isinstance(value, float) and value.is_integer() else value for value in values)
    return ", ".join(dict.fromkeys(map(str, whole)))


def make_notes(groups: list[RunGroup]) -> list[str]:
    """Return notes on what can be compared, on seed noise and on differences between the machines."""
    runs = [run for group in groups for run in group.runs]
    repeated = [_seed_summary(group) for group in groups if len(group.runs) > 1]
    notes = [
        f"~ marks differences below {NOISE_THRESHOLD:g} standard errors between seeds; {'; '.join(repeated)}"
        if repeated
        else "one seed each, so the seed noise is unknown; run several seeds with -S train.seed=…"
    ]
    return text_notes(runs) + notes + machine_notes(runs)


def text_notes(runs: list[Run]) -> list[str]:
    """Return a note if the losses of the runs cannot be compared."""
    digests = {run.params["text"] for run in runs if run.params.get("text")}
    tokenizers = {run.params["tokenizer"] for run in runs if run.params.get("tokenizer")}
    if len(digests) > 1:
        names = ", ".join(f"{run.name} {run.text_name}" for run in runs if run.text_name)
        return [f"the runs have different texts{f' ({names})' if names else ''}, so their losses cannot be compared"]
    if len(tokenizers) > 1:
        return ["the runs have different tokenizers: compare val_loss_per_byte and val_loss_per_character"]
    return []


def machine_notes(runs: list[Run]) -> list[str]:
    """Return notes on differences between the machines."""
    notes = []
    unknown = [run.name for run in runs if run.machine is None]
    if unknown:
        names = ", ".join(unknown)
        notes.append(
            f"the machine of {names} is unknown: models/config.json is missing, or of another version of Folio"
        )
    machines = {run.name: run.machine for run in runs if run.machine is not None}
    for key in sorted({key for machine in machines.values() for key in machine}):
        values = {name: machine.get(key) for name, machine in machines.items()}
        if len(set(map(str, values.values()))) > 1:
            notes.append(f"{key} differs: " + ", ".join(f"{name} {value}" for name, value in values.items()))
    return notes


def format_number(value: float) -> str:
    """Return an integer without decimals, and any other number with four."""
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value == int(value) else f"{value:.4f}"


def _seed_summary(group: RunGroup) -> str:
    """Return the mean of the main metric of a group and the standard error of the mean."""
    values = group.values(MAIN_METRIC)
    error = f" ± {statistics.stdev(values) / math.sqrt(len(values)):.4f}" if len(values) > 1 else ""
    names = ", ".join(run.name for run in group.runs)
    return f"mean of {len(group.runs)} runs ({names}): {MAIN_METRIC} {group.mean(MAIN_METRIC):.4f}{error}"
