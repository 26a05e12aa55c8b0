"""The tables that other stages write for the report."""

from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from stages.core.errors import TextError

# The smallest value of each column that the report needs.
CURVE_COLUMNS = {"step": 0, "train_loss": 0, "val_loss": 0}
BY_POSITION_COLUMNS = {"position": 1, "val_loss": 0, "tokens": 1}
CALIBRATION_COLUMNS = {"confidence": 0, "accuracy": 0}


def read_tsv(path: Path | TextIO, columns: dict[str, int], writer: str) -> pd.DataFrame:
    """Return a table that the stage `writer` wrote, with the given columns, of numbers not below the given ones.

    Raises:
        TextError: if the file is missing or damaged, or has no rows.
    """
    hint = f"run `dvc repro -f {writer}` to write it again"
    try:
        table = pd.read_csv(path, sep="\t")
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; run `dvc repro {writer}` to write it") from None
    except ValueError as error:  # pandas' own errors are ValueErrors too
        raise TextError(f"{path} is not a table ({' '.join(str(error).split())}); {hint}") from None
    if missing := [name for name in columns if name not in table]:
        raise TextError(f"{path} has no column '{missing[0]}'; {hint}")
    values = table[list(columns)]
    is_numeric = all(map(pd.api.types.is_numeric_dtype, values.dtypes))
    if table.empty or not is_numeric or not np.isfinite(values).all(axis=None) or (values < columns).any(axis=None):
        raise TextError(f"{path} has no rows, or impossible values; {hint}")
    return table
