"""Prompts with characters outside the vocabulary."""

import unicodedata
from typing import Literal, get_args

import click

from stages.core.errors import ParameterError, TextError
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.char import UNKNOWN_CHARACTER, CharTokenizer

UnknownPolicy = Literal["error", "skip", "nearest"]
unknown_option = click.option(
    "--unknown",
    type=click.Choice(get_args(UnknownPolicy)),
    default="error",
    show_default=True,
    help="For characters outside the vocabulary: error: fail, or use the model's unknown character if it has one; "
    "skip: remove them; nearest: replace each with the most similar known character.",
)
MAX_CHARACTERS_IN_MESSAGE = 20


def replace_unknown(text: str, tokenizer: Tokenizer, policy: UnknownPolicy) -> str:
    """Return `text` with characters of the vocabulary only.

    Args:
        text: any text.
        tokenizer: tokenizer with the vocabulary.
        policy: `error` raises; `skip` removes unknown characters; `nearest` replaces each by its letter without accent,
            by its other case, or by the known character with the nearest code point.

    Raises:
        TextError: if there are unknown characters and the policy is `error`, if no text is left, or if it has
            an unpaired surrogate.
        ParameterError: if there is no such policy, or the text is no string.
    """
    if policy not in get_args(UnknownPolicy):
        raise ParameterError(f"unknown is {policy!r}: it must be one of {', '.join(get_args(UnknownPolicy))}")
    if not isinstance(text, str):
        raise ParameterError(f"the text is {type(text).__name__}: it must be a str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TextError(
            f"character {text[error.start]!r} at position {error.start} is an unpaired surrogate, which is not valid "
            "text"
        ) from None
    if not isinstance(tokenizer, CharTokenizer) or (tokenizer.has_unknown and policy == "error"):
        return _check_not_empty(text)  # the tokenizer can encode any character
    unknown = sorted(set(text) - set(tokenizer.characters))
    if unknown and policy == "error":
        listed = ", ".join(
            f"{character!r} (U+{ord(character):04X}, first at position {text.index(character)})"
            for character in unknown[:MAX_CHARACTERS_IN_MESSAGE]
        )
        if len(unknown) > MAX_CHARACTERS_IN_MESSAGE:
            listed += f" and {len(unknown) - MAX_CHARACTERS_IN_MESSAGE} more"
        raise TextError(
            f"unknown characters: {listed}; remove them, or set `unknown` (option --unknown) to skip or nearest. The "
            f"vocabulary has {len(tokenizer)} characters: {tokenizer.vocab_preview()}"
        )
    known = [each for each in tokenizer.characters if each != UNKNOWN_CHARACTER or not tokenizer.has_unknown]
    replacements = {character: "" if policy == "skip" else nearest_character(character, known) for character in unknown}
    replaced = "".join(replacements.get(character, character) for character in text)
    if text and not replaced:
        raise TextError(f"the text has only unknown characters ({len(text)}); use characters of the vocabulary")
    return _check_not_empty(replaced)


def count_unknown(text: str, tokenizer: Tokenizer) -> int:
    """Return how many characters of a text are outside the vocabulary."""
    if not isinstance(tokenizer, CharTokenizer):
        return 0
    known = set(tokenizer.characters)
    return sum(character not in known for character in text)


def default_prompt(tokenizer: Tokenizer) -> str:
    """Return a line break, or the first character of a vocabulary that has none."""
    if isinstance(tokenizer, CharTokenizer) and "\n" not in tokenizer.characters:
        return tokenizer.characters[0]
    return "\n"


def nearest_character(character: str, known: list[str]) -> str:
    """Return the known character that is most similar to another one."""
    base = unicodedata.normalize("NFKD", character)[0]
    for candidate in (base, base.swapcase(), character.lower(), character.upper()):
        if candidate in known:
            return candidate
    return min(known, key=lambda known_character: abs(ord(known_character) - ord(base)), default="")


def _check_not_empty(text: str) -> str:
    if not text:
        raise TextError("the text is empty; provide at least one character of the vocabulary")
    return text
