"""A prompt as ids, and what to do with characters that a model never saw."""

import unicodedata
from typing import Literal, get_args

import click

from stages.core.errors import TextError
from stages.tokenizers.base import Tokenizer
from stages.tokenizers.char import CharTokenizer

Unknown = Literal["error", "skip", "nearest"]
unknown_option = click.option(
    "--unknown",
    type=click.Choice(get_args(Unknown)),
    default="error",
    show_default=True,
    help="Characters that the model never saw: refuse (or take its unknown one, where it has one), leave out, or take "
    "the most similar.",
)


def known_text(text: str, tokenizer: Tokenizer, unknown: Unknown) -> str:
    """Give `text` with known characters only.

    Args:
        text: any.
        tokenizer: that knows.
        unknown: `error`: refuse; `skip`: leave unknown characters out; `nearest`: take the letter below an accent, the
            other case, or the known character with the nearest code point.

    Raises:
        TextError: naming every unknown character, and the known ones; or where nothing is left.
    """
    if not isinstance(tokenizer, CharTokenizer) or (tokenizer.unknown and unknown == "error"):
        return not_empty(text)  # there is nothing that it does not know, or it has a character for that
    strange = sorted(set(text) - set(tokenizer.characters))
    if strange and unknown == "error":
        shown = ", ".join(
            f"{each!r} (U+{ord(each):04X}, first at position {text.index(each)})" for each in strange[:20]
        )
        raise TextError(
            f"unknown characters: {shown}; the {len(tokenizer)} known ones: {tokenizer.known()}; or take "
            f"--unknown skip or --unknown nearest"
        )
    replacement = {each: "" if unknown == "skip" else nearest(each, tokenizer.characters) for each in strange}
    return not_empty("".join(replacement.get(each, each) for each in text))


def not_empty(text: str) -> str:
    """Refuse a prompt with nothing in it.

    Raises:
        TextError: saying so.
    """
    if not text:
        raise TextError("nothing is left of the prompt: give at least one character that the model knows")
    return text


def nearest(character: str, known: list[str]) -> str:
    """Give the known character that is most like another."""
    plain = unicodedata.normalize("NFKD", character)[0]
    for candidate in (plain, plain.swapcase(), character.lower(), character.upper()):
        if candidate in known:
            return candidate
    return min(known, key=lambda each: abs(ord(each) - ord(plain)))
