"""The notebook's first half: characters, ids, blocks, and a batch."""

from typing import Any

import torch
from torch import Tensor

from stages.core.errors import TextError
from stages.tokenizers.char import CharTokenizer
from stages.tools.lecture.tables import Labelled, in_rows, labelled
from stages.train.batches import random_positions

BLOCK_SIZE, BATCH_SIZE = 8, 4


def characters(text: str, tokenizer: CharTokenizer) -> dict[str, Any]:
    """Look at the vocabulary, at a word in ids and back, and at a word that cannot be encoded."""
    numbers: dict[str, Any] = {"characters": len(text), "vocabulary_size": len(tokenizer)}
    for word in ("Bee3", "Bee7"):
        try:
            ids = tokenizer.encode(word)
        except TextError as error:
            numbers[f"encode_{word}_error"] = str(error)
        else:
            numbers |= {f"encode_{word}": ids.tolist(), f"decode_{word}": tokenizer.decode(ids)}
    return numbers


def blocks(train: Tensor, val: Tensor) -> dict[str, Any]:
    """Look at the text's beginning, its division, its first blocks, and what a block teaches."""
    first = train[: BLOCK_SIZE + 1]
    return {
        "first_15": train[:15].tolist(),
        "train_characters": len(train),
        "val_characters": len(val),
        "x_0": train[:BLOCK_SIZE].tolist(),
        "x_1": train[BLOCK_SIZE : 2 * BLOCK_SIZE].tolist(),
        "pairs_0": pairs(first[:-1], first[1:]),
    }


def pairs(x: Tensor, y: Tensor) -> list[list[Any]]:
    """List what a block, (T,), teaches: each context, and the character that follows it."""
    return [[x[: t + 1].tolist(), int(y[t])] for t in range(len(x))]


def draw(train: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw the notebook's batch: four windows of eight; its draws leave out the text's very last window."""
    positions = random_positions(len(train) - 1, BLOCK_SIZE, BATCH_SIZE, generator)
    return train[positions], train[positions + 1]


def batch(train: Tensor, seed: int) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Draw a batch with a fresh seed; give its numbers, inputs and targets."""
    torch.manual_seed(seed)
    xb, yb = draw(train, torch.default_generator)
    learned = [pair for x, y in zip(xb, yb, strict=True) for pair in pairs(x, y)]
    return {"xb": xb.tolist(), "yb": yb.tolist(), "pairs": learned}, xb, yb


def tables(numbers: dict[str, Any], tokenizer: CharTokenizer) -> dict[str, Labelled]:
    """Lay out the vocabulary, the first block, and the batch, with the characters below the ids."""

    def character(index: int) -> str:
        return tokenizer.characters[index]

    rows = {name: in_rows([each for row in numbers[name] for each in row], BLOCK_SIZE) for name in ("xb", "yb")}
    return {
        "vocabulary": labelled("the vocabulary, sixteen to a row", in_rows(range(len(tokenizer)), 16), character),
        "x_0": labelled("x_0, the first block", in_rows(numbers["x_0"], BLOCK_SIZE), character),
        "xb": labelled("xb, four contexts of eight", rows["xb"], character),
        "yb": labelled("yb, what follows each position of xb", rows["yb"], character),
    }
