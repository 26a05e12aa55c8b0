"""The ids of a text as torch maps them, in their small type."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.errors import TextError
from stages.text.tokenizer import CharTokenizer
from stages.text.writing import FILE


def load_tokens(folder: Path, tokenizer: CharTokenizer) -> tuple[Tensor, Tensor]:
    """Give the ids that train and those that validate, each (N,), in the smallest unsigned type, mapped, not read.

    Raises:
        TextError: where the file is missing or damaged, or belongs to another vocabulary.
    """
    path = folder / FILE
    try:
        with safe_open(path, "pt") as opened:
            vocabulary = (opened.metadata() or {})["vocabulary"]
            train, val = opened.get_tensor("train"), opened.get_tensor("val")
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; `dvc repro tokenize` makes it") from None
    except (SafetensorError, KeyError) as error:
        raise TextError(f"{path} is damaged ({error}); `dvc repro -f tokenize` makes it again") from None
    if vocabulary != tokenizer.sum:
        raise TextError(
            f"{path} was made with another vocabulary than the {len(tokenizer)} characters of this tokenizer: the "
            f"tokens belong to another tokenizer; tokenize and train again"
        )
    return train, val


def check_length(train: Tensor, val: Tensor, block_size: int) -> None:
    """Refuse a text that has no window of `block_size` characters and one more, to predict.

    Raises:
        TextError: naming the part that is too short.
    """
    for name, part in (("training", train), ("validation", val)):
        if len(part) <= block_size:
            raise TextError(
                f"the {name} part has {len(part)} characters, model.block_size is {block_size}: a window and the "
                f"character after it do not fit; set model.block_size to {len(part) - 1} or less, or take a longer text"
            )
