"""Mean and standard error of a metric over experiments: `python -m benchmarks.seeds seed-`."""

import click
import dvc.api
import pandas as pd


@click.command()
@click.argument("prefix")
@click.option("--metric", default="val_loss", show_default=True)
def main(prefix: str, metric: str) -> None:
    """Look at the experiments whose names begin with PREFIX."""
    table = pd.DataFrame(dvc.api.exp_show())
    runs = table[table["Experiment"].fillna("").str.startswith(prefix)]
    values = pd.to_numeric(runs[metric])
    click.echo(runs[["Experiment", metric]].to_string(index=False))
    click.echo(f"{metric}: {values.mean():.4f} ± {values.sem():.4f} (mean and standard error of {len(values)})")


if __name__ == "__main__":
    main()
