"""A trained model as an object that generates and scores text."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.core.device import tokens_to_device
from stages.core.errors import ModelError, ParameterError, TextError
from stages.core.params import check_section
from stages.generation.params import GenerationParams
from stages.generation.prompts import UnknownPolicy, default_prompt, replace_unknown
from stages.generation.streaming import stream_tokens
from stages.losses.adaptive import adaptive_losses, countable_training_text
from stages.losses.window_losses import token_losses
from stages.losses.windows import sliding_windows
from stages.models.model_folder import TrainedModel, load_model
from stages.tokenizers.base import TokenIds
from stages.tokenizers.token_files import TokenSource


@dataclass(frozen=True)
class Sample:
    """A generated text.

    Attributes:
        text: the prompt and the text generated after it.
        seed: seed of the sample.
        log_probability: log-probability of the generated tokens that begin in the text, under the model, in nats.
        bits_per_character: the same in bits, per generated character.
    """

    text: str
    seed: int
    log_probability: float
    bits_per_character: float


class TextModel:
    """A trained model with its tokenizer, on a device."""

    def __init__(self, trained: TrainedModel, device: torch.device | str = "cpu") -> None:
        self.model, self.tokenizer, self.device = trained.model.to(device), trained.tokenizer, device

    @classmethod
    def load(cls, folder: Path | str = "models", device: torch.device | str = "cpu") -> "TextModel":
        """Return the model in a folder.

        Raises:
            ModelError: if the folder has no complete model.
        """
        return cls(load_model(Path(folder)), device)

    def generate(
        self,
        prompt: str | None = None,
        max_new_tokens: int = 500,
        temperature: float = 0.8,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        stop: str | Sequence[str] = (),
        seed: int = 1337,
        unknown: UnknownPolicy = "error",
    ) -> str:
        """Return the prompt and a continuation, which ends before the first of the `stop` texts.

        Without a prompt, it is a line break, or the first character of a vocabulary that has none. See
        `GenerationParams` for the other arguments, and `replace_unknown` for `unknown`.

        Raises:
            TextError: if the prompt has characters outside the vocabulary and `unknown` is `error`.
            ParameterError: if another value is not allowed.
        """
        values = {
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "max_new_tokens": max_new_tokens,
            "stop": [stop] if isinstance(stop, str) else list(stop) if isinstance(stop, Iterable) else stop,
            "seed": seed,
        }
        params = check_section(values, GenerationParams, "generate")
        if prompt is None:
            prompt = default_prompt(self.tokenizer)
        prompt = replace_unknown(prompt, self.tokenizer, unknown)
        return self.generate_samples(prompt, params, [params.seed])[0].text

    def generate_samples(self, prompt: str, params: GenerationParams, seeds: Sequence[int]) -> list[Sample]:
        """Return one sample per seed, generated together; each depends on its seed only, except for rounding.

        Args:
            prompt: the text to continue.
            params: how to continue it; its seed is not used.
            seeds: seeds of the samples.

        Raises:
            TextError: if the prompt has unknown characters.
        """
        count = len(seeds)
        texts, finished = [""] * count, [False] * count
        starts_and_log_probs: list[list[tuple[int, float]]] = [[] for _ in seeds]  # where each token begins in its text
        decoder = self.tokenizer.stream_decoder(count)
        prompt_ids = self._encode(prompt).expand(count, -1)
        for ids, token_log_probs in stream_tokens(self.model, prompt_ids, params.max_new_tokens, params, list(seeds)):
            new_texts = decoder.decode_next(ids.flatten().tolist())
            for index, (new_text, log_prob) in enumerate(
                zip(new_texts, token_log_probs.flatten().tolist(), strict=True)
            ):
                if not finished[index]:
                    starts_and_log_probs[index].append((len(texts[index]), log_prob))
                    texts[index] += new_text
                    finished[index] = any(text in texts[index][-len(text) - len(new_text) :] for text in params.stop)
            if all(finished):
                break
        rests = decoder.flush()
        texts = [text if done else text + rest for text, rest, done in zip(texts, rests, finished, strict=True)]
        samples = []
        for text, seed, tokens in zip(texts, seeds, starts_and_log_probs, strict=True):
            shown = cut_at_stop(text, params.stop)
            log_prob = sum(log_prob for start, log_prob in tokens if start < len(shown) or shown == text)
            samples.append(Sample(prompt + shown, seed, log_prob, -log_prob / max(1, len(shown)) / math.log(2)))
        return samples

    def stream(self, prompt: str, params: GenerationParams, seed: int) -> Iterator[str]:
        """Yield the continuation of the prompt as it is generated.

        It is the text that `generate_samples` returns for one seed. For several, other operations compute the same
        probabilities, whose rounding can decide a draw.

        Args:
            prompt: the text to continue.
            params: how to continue it; its seed is not used.
            seed: seed of the sample.

        Raises:
            TextError: if the prompt has unknown characters.
        """
        return stream_until_stop(self._stream_text(prompt, params, seed), params.stop)

    def score(self, text: str, unknown: UnknownPolicy = "error", training_tokens: TokenIds | None = None) -> float:
        """Return the bits per character of a text of at least two tokens; the first one is not predicted.

        The arguments and errors are those of `token_bits`.
        """
        ids, bits = self.token_bits(text, unknown, training_tokens)
        characters, _ = self.tokenizer.token_lengths()
        return float(bits.sum()) / max(1, int(characters[ids[1:]].sum()))

    def token_bits(
        self,
        text: str,
        unknown: UnknownPolicy = "error",
        training_tokens: TokenIds | None = None,
        sources: Sequence[TokenSource] = (TokenSource(0, 1.0),),
    ) -> tuple[Tensor, Tensor]:
        """Return the token ids of a text, (N,), and the bits of each but the first, (N - 1,).

        Each token after the first block has at least half a block of context.

        Args:
            text: the text.
            unknown: what to do with characters outside the vocabulary; see `replace_unknown`.
            training_tokens: the training text, (M,), as in data/tokens/train.npy. With it, the model learns from the
                text while reading it, as in `adaptive_val_loss`. Of a very long one, only pieces are counted.
            sources: sources of the training text.

        Raises:
            TextError: if the text is too short, or has unknown characters and `unknown` is `error`.
            ModelError: if the model should learn from the text, but has no n-grams.
            ParameterError: if the training tokens are not token ids of its tokenizer.
        """
        if training_tokens is not None and self.model.ngram_model is None:
            raise ModelError(
                "the model has no n-grams, so it cannot learn from the text while reading it; score without --adaptive "
                "(in Python, without training_tokens)"
            )
        ids = self._encode(replace_unknown(text, self.tokenizer, unknown))[0]
        if len(ids) < 2:
            raise TextError(
                f"a text of one {self.tokenizer.unit} cannot be scored, because it has no context; use a longer one"
            )
        if training_tokens is None:
            block_size = self.model.params.block_size
            windows = sliding_windows(ids, block_size, stride=max(1, block_size // 2), batch_size=4)
            parts = [losses.flatten() for losses in token_losses(self.model, windows)]
        else:
            check_training_tokens(training_tokens, len(self.tokenizer))
            counted = countable_training_text(self.model, training_tokens, sources, len(ids))
            train = tokens_to_device(counted, torch.device(self.device))
            parts = list(adaptive_losses(self.model, train, ids))
        return ids.cpu(), torch.cat(parts).cpu() / math.log(2)

    def _stream_text(self, prompt: str, params: GenerationParams, seed: int) -> Iterator[str]:
        decoder = self.tokenizer.stream_decoder(1)
        for ids, _ in stream_tokens(self.model, self._encode(prompt), params.max_new_tokens, params, [seed]):
            yield decoder.decode_next(ids.flatten().tolist())[0]
        yield decoder.flush()[0]

    def _encode(self, text: str) -> Tensor:
        return torch.from_numpy(self.tokenizer.encode(text).astype(np.int64))[None].to(self.device)


def check_training_tokens(tokens: object, vocab_size: int) -> None:
    """Check that an argument is an array of token ids of a vocabulary.

    Raises:
        ParameterError: if it is something else.
    """
    if not isinstance(tokens, np.ndarray) or tokens.ndim != 1 or not np.issubdtype(tokens.dtype, np.integer):
        raise ParameterError(
            'training_tokens must be a NumPy array of token ids, as numpy.load("data/tokens/train.npy")'
        )
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocab_size:
        raise ParameterError(
            f"training_tokens has values from {tokens.min()} to {tokens.max()}, but the vocabulary has {vocab_size} "
            "tokens; use the tokens that the model was trained on"
        )


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """Return `text` up to the first of the `stop` texts."""
    ends = [text.find(stop_text) for stop_text in stop if stop_text in text]
    return text[: min(ends)] if ends else text


def stream_until_stop(pieces: Iterable[str], stop: Sequence[str]) -> Iterator[str]:
    """Yield text as it arrives, up to the first of the `stop` texts; a possible beginning of one is held back."""
    pending = ""
    for piece in pieces:
        pending += piece
        if any(stop_text in pending for stop_text in stop):
            yield cut_at_stop(pending, stop)
            return
        held = max(
            (n for stop_text in stop for n in range(1, len(stop_text)) if pending.endswith(stop_text[:n])), default=0
        )
        released = pending[: len(pending) - held]
        pending = pending[len(released) :]
        if released:
            yield released
    if pending:
        yield pending
