"""The tensors that tokenize wrote, as torch reads them: mapped, in their small type."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from stages.errors import TextError
from stages.text.tokenizer import CharTokenizer


def load_tokens(folder: Path, tokenizer: CharTokenizer) -> tuple[Tensor, Tensor]:
    """Give the ids that train and those that validate, each (N,), in the smallest unsigned type.

    Raises:
        TextError: where the file is missing or damaged, or holds ids that the vocabulary lacks.
    """
    path = folder / "tokens.safetensors"
    try:
        tensors = load_file(path)
        train, val = tensors["train"], tensors["val"]
    except FileNotFoundError:
        raise TextError(f"{path} does not exist; `dvc repro tokenize` makes it") from None
    except (SafetensorError, KeyError) as error:
        raise TextError(f"{path} is damaged ({error}); `dvc repro -f tokenize` makes it again") from None
    largest = max(int(train.long().max()), int(val.long().max()))
    if largest >= len(tokenizer):
        raise TextError(
            f"{path} holds id {largest}, but the vocabulary has {len(tokenizer)} characters: the tokens belong to "
            f"another tokenizer; tokenize and train again"
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
