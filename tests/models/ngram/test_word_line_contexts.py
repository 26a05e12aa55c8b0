import pytest
import torch
from torch import Tensor

from stages.models.ngram.word_line_contexts import TorchWordLineContexts, context_keys
from stages.tokenizers.char import CharTokenizer

TEXT = "This is\nthis\tis THIS; is it?\n\na,1,b\nc,22,d\ne,1,f\nIt is  this is.\n"


def keys_of(text: str, alphabet: str = TEXT) -> Tensor:
    """Return the keys after each character, (kinds, contexts per kind, T)."""
    tokenizer = CharTokenizer(sorted(set(alphabet + text)))
    ids = torch.from_numpy(tokenizer.encode(text)).long()
    return context_keys(ids[None], torch.from_numpy(tokenizer.token_classes()))[:, :, 0]


def words_reference(text: str, count: int) -> list[object]:
    """Return the words at each position, by splitting the text: the last one, complete or not, and `count` more."""
    contexts: list[object] = []
    for end in range(1, len(text) + 1):
        before = "".join(c if c.isalnum() else " " for c in text[:end].casefold())
        words, last = before.split(), ""
        if before[-1] != " ":
            last = words.pop()
        earlier = ([""] * count + words)[-count:]
        contexts.append((last, earlier, "" if last else text[end - 1]))
    return contexts


def lines_reference(text: str, count: int) -> list[object]:
    """Return the last character at each position, and `count` characters above the next one."""
    contexts: list[object] = []
    for end in range(1, len(text) + 1):
        *others, line = text[:end].split("\n")
        above = others[-1] + "\n" if others else ""
        contexts.append((text[end - 1], above[len(line) : len(line) + count].ljust(count, "\0")))
    return contexts


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("kind", "reference"), [(0, words_reference), (1, lines_reference)])
def test_keys_are_equal_exactly_where_the_contexts_are(kind, reference, count):
    keys, contexts = keys_of(TEXT)[kind, count - 1].tolist(), reference(TEXT, count)
    for one, one_key in zip(contexts, keys, strict=True):
        for other, other_key in zip(contexts, keys, strict=True):
            assert (one == other) == (one_key == other_key), (one, other)


def test_keys_do_not_depend_on_what_follows_or_on_the_place_in_the_text():
    text = "A line\nof words and\nwords of lines\n"
    keys = keys_of(text, text)
    assert torch.equal(keys_of(text[:20], text), keys[..., :20])
    shifted = keys_of("of A\n\n" + text, text)[..., 6:]
    assert torch.equal(shifted[..., 16:], keys[..., 16:])


@pytest.mark.parametrize("split", [1, 5, 30, len(TEXT) - 1])
def test_a_text_that_grows_has_the_same_keys(split):
    tokenizer = CharTokenizer(sorted(set(TEXT)))
    ids, classes = torch.from_numpy(tokenizer.encode(TEXT)).long(), torch.from_numpy(tokenizer.token_classes())
    ids = torch.stack((ids, ids.roll(7)))
    tracked = TorchWordLineContexts(ids[:, :split], classes, size=100)
    for token in ids[:, split:].unbind(1):
        tracked.step(token)
    assert torch.equal(tracked.keys, context_keys(ids, classes))
    assert torch.equal(tracked.ids, ids)


def test_beyond_its_size_a_text_keeps_the_last_tokens_and_their_keys():
    tokenizer = CharTokenizer(sorted(set(TEXT)))
    ids = torch.from_numpy(tokenizer.encode(TEXT)).long()[None]
    classes = torch.from_numpy(tokenizer.token_classes())
    tracked = TorchWordLineContexts(ids[:, :3], classes, size=20)  # at least two lines of TEXT
    for token in ids[:, 3:].unbind(1):
        tracked.step(token)
    assert torch.equal(tracked.ids, ids[:, -20:])
    assert torch.equal(tracked.keys[..., -8:], context_keys(ids, classes)[..., -8:])
