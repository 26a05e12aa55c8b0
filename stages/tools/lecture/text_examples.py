"""The first half of the notebook: vocabulary, token ids, blocks and a batch."""

from typing import Any

import torch
from torch import Tensor

from stages.core.errors import TextError
from stages.tokenizers.char import CharTokenizer
from stages.tools.lecture.labelled_tables import LabelledTable, in_rows, label_table

BLOCK_SIZE, BATCH_SIZE = 8, 4


def describe_vocabulary(text: str, tokenizer: CharTokenizer) -> dict[str, Any]:
    """Return the size of the vocabulary, a word as ids and back, and a word that cannot be encoded."""
    numbers: dict[str, Any] = {"characters": len(text), "vocabulary_size": len(tokenizer)}
    for word in ("Bee3", "Bee7"):
        try:
            ids = tokenizer.encode(word)
        except TextError as error:
            numbers[f"encode_{word}_error"] = str(error)
        else:
            numbers |= {f"encode_{word}": ids.tolist(), f"decode_{word}": tokenizer.decode(ids)}
    return numbers


def describe_blocks(train: Tensor, val: Tensor) -> dict[str, Any]:
    """Return the beginning of the text, its split, its first blocks, and the examples in a block."""
    first = train[: BLOCK_SIZE + 1]
    return {
        "first_15": train[:15].tolist(),
        "train_characters": len(train),
        "val_characters": len(val),
        "x_0": train[:BLOCK_SIZE].tolist(),
        "x_1": train[BLOCK_SIZE : 2 * BLOCK_SIZE].tolist(),
        "pairs_0": context_target_pairs(first[:-1], first[1:]),
    }


def context_target_pairs(inputs: Tensor, targets: Tensor) -> list[list[Any]]:
    """Return the examples in a block, (T,): each context, and the token that follows it."""
    return [[inputs[: t + 1].tolist(), int(targets[t])] for t in range(len(inputs))]


def sample_batch(train: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inputs and targets of a batch, as the notebook samples it from PyTorch's global generator."""
    starts = torch.randint(len(train) - BLOCK_SIZE - 1, (BATCH_SIZE,))
    positions = starts[:, None] + torch.arange(BLOCK_SIZE)
    return train[positions], train[positions + 1]


def sample_first_batch(train: Tensor, seed: int) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Return a batch sampled with a seed: its numbers, inputs and targets."""
    torch.manual_seed(seed)
    inputs, targets = sample_batch(train)
    pairs = [pair for x, y in zip(inputs, targets, strict=True) for pair in context_target_pairs(x, y)]
    return {"xb": inputs.tolist(), "yb": targets.tolist(), "pairs": pairs}, inputs, targets


def make_tables(numbers: dict[str, Any], tokenizer: CharTokenizer) -> dict[str, LabelledTable]:
    """Return tables of the vocabulary, the first block and the batch, with the characters below the ids."""

    def character(token_id: int) -> str:
        return tokenizer.characters[token_id]

    rows = {name: in_rows([token_id for row in numbers[name] for token_id in row], BLOCK_SIZE) for name in ("xb", "yb")}
    vocabulary = in_rows(range(len(tokenizer)), 16)
    return {
        "vocabulary": label_table("the vocabulary, sixteen to a row", vocabulary, character),
        "x_0": label_table("x_0, the first block", in_rows(numbers["x_0"], BLOCK_SIZE), character),
        "xb": label_table("xb, four contexts of eight", rows["xb"], character),
        "yb": label_table("yb, what follows each position of xb", rows["yb"], character),
    }
