"""Mean and standard error of a metric over experiments: `python -m benchmarks.seeds seed-`."""

import click
import dvc.api
import numpy as np
import pandas as pd


@click.command()
@click.argument("prefix")
@click.option("--metric", default="val_loss", show_default=True)
def main(prefix: str, metric: str) -> None:
    """Look at the experiments whose names begin with PREFIX."""
    table = pd.DataFrame(dvc.api.exp_show())
    runs = table[table["Experiment"].fillna("").str.startswith(prefix)]
    values = np.array(runs[metric], dtype=float)
    mean, error = values.mean(), values.std(ddof=1) / len(values) ** 0.5
    click.echo(runs[["Experiment", metric]].to_string(index=False))
    click.echo(f"{metric}: {mean:.4f} ± {error:.4f} (mean and standard error of {len(values)})")


if __name__ == "__main__":
    main()
