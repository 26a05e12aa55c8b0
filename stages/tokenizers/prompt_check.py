"""Check the prompts of params.yaml as soon as the vocabulary is known, not after training."""

from pathlib import Path

from stages.core.errors import ParameterError, TextError
from stages.core.params import read_value
from stages.tokenizers.base import Tokenizer

PROMPTS = (("sample", "prompt"), ("evaluate", "attention_prompt"))


def check_prompts(params_path: Path, tokenizer: Tokenizer) -> None:
    """Check that the prompts can be encoded.

    Raises:
        ParameterError: if one has characters outside the vocabulary.
    """
    for section, key in PROMPTS:
        prompt = read_value(params_path, section, key)
        if prompt is None:
            continue
        try:
            tokenizer.encode(prompt)
        except TextError as error:
            raise ParameterError(f"{params_path}: {section}.{key} is {prompt!r}: {error}") from None
