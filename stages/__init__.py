"""Folio trains a language model on any text, then evaluates it, samples from it and reports on it.

`from stages import load` returns a trained model that generates and scores text; see
`stages.generation.text_model.TextModel`.
"""

import os
import platform
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

# In GNU OpenMP, which PyTorch uses on Linux, a thread that waits for another one keeps its core for a while before it
# sleeps. If the other thread needs that core, training becomes many times slower (docs/performance.md). OpenMP reads
# the variable when PyTorch is imported. No result depends on it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# NumPy generates single texts with small matrix products, which are faster in one thread. On other processors, PyTorch
# may use OpenBLAS too, so its threads are not limited there.
if platform.machine() in ("x86_64", "AMD64"):
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

if TYPE_CHECKING:
    from stages.generation.text_model import TextModel


def load(folder: Path | str = "models", device: str = "cpu") -> "TextModel":
    """Return the trained model in a folder.

    Raises:
        ModelError: if the folder has no complete model.
    """
    text_model: TextModel = import_module("stages.generation.text_model").TextModel.load(folder, device)
    return text_model


__all__ = ["load"]
