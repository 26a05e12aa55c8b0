"""Folio: any text in, a trained, evaluated and sampled character-level language model out.

`from stages import load` gives a trained model to write and score with; see `stages.generation.text_model.Writer`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.generation.text_model import Writer


def load(folder: str = "models", device: str = "cpu") -> "Writer":
    """Read a model folder, to write and score with."""
    writer: Writer = import_module("stages.generation.text_model").Writer.load(folder, device)
    return writer


__all__ = ["load"]
