"""A trained model as people use it: text in, text out."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.core.errors import TextError
from stages.generation.prompts import Unknown, known_text
from stages.generation.sampling import Choice
from stages.generation.streaming import stream
from stages.metrics.losses import sliding, token_losses
from stages.models.model_folder import Saved, load


@dataclass(frozen=True)
class Sample:
    """A text that a model wrote: prompt and what follows; `log_probability`, in nats, is that of what follows."""

    text: str
    seed: int
    log_probability: float
    bits_per_character: float


class Writer:
    """A model and its vocabulary, on a device."""

    def __init__(self, saved: Saved, device: torch.device | str = "cpu") -> None:
        self.model, self.tokenizer, self.device = saved.model.to(device), saved.tokenizer, device

    @classmethod
    def load(cls, folder: Path | str = "models", device: torch.device | str = "cpu") -> "Writer":
        """Read a model folder.

        Raises:
            ModelError: where it holds no whole model.
        """
        return cls(load(Path(folder)), device)

    def generate(
        self,
        prompt: str = "\n",
        length: int = 500,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        stop: Sequence[str] = (),
        seed: int = 1337,
        unknown: Unknown = "error",
    ) -> str:
        """Give the prompt and what the model writes after it: `length` tokens, or up to one of the `stop` texts.

        Raises:
            TextError: where the prompt has characters that the model does not know, and `unknown` is `error`.
        """
        choice = Choice(temperature, top_k, top_p, min_p)
        return self.write(known_text(prompt, self.tokenizer, unknown), length, choice, [seed], stop)[0].text

    def write(
        self, prompt: str, length: int, choice: Choice, seeds: Sequence[int], stop: Sequence[str] = ()
    ) -> list[Sample]:
        """Write one sample for each seed, together; a sample does not depend on the others."""
        count = len(seeds)
        texts, log_probabilities, done = [""] * count, [0.0] * count, [False] * count
        decoding = self.tokenizer.streams(count)
        for ids, logs in stream(self.model, self._ids(prompt).expand(count, -1), length, choice, list(seeds)):
            added = decoding.feed(ids.flatten().tolist())
            for index, (new, log) in enumerate(zip(added, logs.flatten().tolist(), strict=True)):
                if not done[index]:
                    texts[index] += new
                    log_probabilities[index] += log
                    done[index] = any(each in texts[index][-len(each) - len(new) :] for each in stop)
            if all(done):
                break
        texts = [text if over else text + rest for text, rest, over in zip(texts, decoding.end(), done, strict=True)]
        return [
            Sample(prompt + cut(text, stop), seed, log, -log / max(1, len(text)) / math.log(2))
            for text, seed, log in zip(texts, seeds, log_probabilities, strict=True)
        ]

    def stream(self, prompt: str, length: int, choice: Choice, seed: int, stop: Sequence[str] = ()) -> Iterator[str]:
        """Give what follows the prompt as it is made; the same text as `write` gives."""
        return until_stop(self._decoded(prompt, length, choice, seed), stop)

    def _decoded(self, prompt: str, length: int, choice: Choice, seed: int) -> Iterator[str]:
        decoding = self.tokenizer.streams(1)
        for ids, _ in stream(self.model, self._ids(prompt), length, choice, [seed]):
            yield decoding.feed(ids.flatten().tolist())[0]
        yield decoding.end()[0]

    def score(self, text: str, unknown: Unknown = "error") -> float:
        """Give the bits per character of a text of two tokens or more; the first one is not predicted.

        Raises:
            TextError: where it has unknown characters, and `unknown` is `error`, or is too short.
        """
        ids, bits = self.bits(text, unknown)
        characters, _ = self.tokenizer.lengths()
        return float(bits.sum()) / max(1, int(characters[ids[1:]].sum()))

    def bits(self, text: str, unknown: Unknown = "error") -> tuple[Tensor, Tensor]:
        """Give the ids of a text, (N,), and the bits of each but the first, (N - 1,), with half a block before each."""
        ids = self._ids(known_text(text, self.tokenizer, unknown))[0]
        if len(ids) < 2:
            raise TextError(
                f"a text of one {self.tokenizer.unit} cannot be scored: there is nothing before it; give a longer one"
            )
        block_size = self.model.params.block_size
        batches = sliding(ids, block_size, max(1, block_size // 2), 4)
        losses = torch.cat([losses.flatten() for losses in token_losses(self.model, batches)])
        return ids.cpu(), losses.cpu() / math.log(2)

    def _ids(self, text: str) -> Tensor:
        return torch.from_numpy(self.tokenizer.encode(text).astype(np.int64))[None].to(self.device)


def cut(text: str, stop: Sequence[str]) -> str:
    """Leave out the first of the `stop` texts and what follows it."""
    ends = [text.find(each) for each in stop if each in text]
    return text[: min(ends)] if ends else text


def until_stop(pieces: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """Pass text on as it comes, up to one of the `stop` texts; what may be the beginning of one waits."""
    waiting = ""
    for piece in pieces:
        waiting += piece
        if any(each in waiting for each in stop):
            yield cut(waiting, stop)
            return
        held = max((n for each in stop for n in range(1, len(each)) if waiting.endswith(each[:n])), default=0)
        passed = waiting[: len(waiting) - held]
        waiting = waiting[len(passed) :]
        if passed:
            yield passed
    if waiting:
        yield waiting
