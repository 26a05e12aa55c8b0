"""Which part of a text trains and which validates."""

from pathlib import Path

from stages.errors import TextError
from stages.text.tokenizer import Ids


def split(ids: Ids, val_fraction: float, path: Path) -> tuple[Ids, Ids]:
    """Cut `ids` into the first part, to train, and the last `val_fraction`, to validate.

    Raises:
        TextError: where a part would hold fewer than two characters, so that nothing could be predicted.
    """
    cut = int((1 - val_fraction) * len(ids))
    train, val = ids[:cut], ids[cut:]
    if min(len(train), len(val)) < 2:
        raise TextError(
            f"{path} has {len(ids)} characters: divided at tokenize.val_fraction = {val_fraction}, {len(train)} train "
            f"and {len(val)} validate, and both need 2 or more; give a longer text"
        )
    return train, val
