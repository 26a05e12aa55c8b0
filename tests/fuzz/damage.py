"""Hypothesis strategies that damage files: any bytes, and the values of JSON and YAML documents."""

import copy
import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

NESTED: Any = []
for _ in range(300):
    NESTED = [NESTED]
# Values of every type, among them those that overflow, recurse or are too long to print.
ODD_VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 10**12, 1e308, -1e308, float("nan"), 10**400, "", "x", "\x1b[31m", "\ud800",
    "a" * 10_000, [], {}, [None], [[0]], {"a": {"b": [1]}}, NESTED,
]  # fmt: skip


@st.composite
def damaged_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """Flip bits, cut, extend or replace a part of a file."""
    damaged = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        position = draw(st.integers(0, max(0, len(damaged) - 1)))
        match draw(st.sampled_from(["flip", "truncate", "insert", "delete", "overwrite"])):
            case "flip" if damaged:
                damaged[position] ^= 1 << draw(st.integers(0, 7))
            case "truncate":
                del damaged[position:]
            case "insert":
                damaged[position:position] = draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del damaged[position : position + draw(st.integers(1, 64))]
            case _:
                damaged[position : position + 4] = draw(st.sampled_from([b"\0" * 4, b"\xff" * 4, b'""{}', b"1e99"]))
    return bytes(damaged)


@st.composite
def damaged_document(draw: st.DrawFn, document: Any, dump: Callable[[Any], str] = json.dumps) -> bytes:
    """Replace, delete or add one value anywhere in a document."""
    damaged = copy.deepcopy(document)
    places = list(walk(damaged))
    if not places:
        return dump(draw(st.sampled_from(ODD_VALUES))).encode(errors="surrogatepass")
    parent, key = draw(st.sampled_from(places))
    match draw(st.sampled_from(["replace", "replace", "replace", "delete", "add"])):
        case "delete":
            del parent[key]
        case "add" if isinstance(parent, dict):
            parent["unexpected"] = draw(st.sampled_from(ODD_VALUES))
        case _:
            parent[key] = draw(st.sampled_from(ODD_VALUES))
    return dump(damaged).encode(errors="surrogatepass")


def walk(document: Any) -> Any:
    """Yield every (container, key) of a document."""
    values = document if isinstance(document, dict) else dict(enumerate(document)) if isinstance(document, list) else {}
    for key, value in list(values.items()):
        yield document, key
        yield from walk(value)
