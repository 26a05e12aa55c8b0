from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.documents import DOCUMENT
from stages.core.errors import TextError
from stages.tokenize.splitting import Span, read_spans, split_point, split_sources


def test_a_document_is_never_in_both_parts():
    starts = np.array([0, 100, 860, 990])
    assert split_point(1000, 0.1, "x", starts) == 860
    assert split_point(1000, 0.1, "x", starts[:1]) == 900
    assert split_point(1000, 0.1, "x") == 900
    with pytest.raises(TextError, match="999 of its 1000 characters are for training and 1 for validation"):
        split_point(1000, 0.001, "x", np.array([0, 999]))


@pytest.mark.parametrize(
    ("lengths", "val_fraction"),
    [([500, 22_000], 0.1), ([22_000, 500], 0.1), ([40_000, 1_075_394], 0.1), ([5000, 5000], 0.1), ([10, 9990], 0.02)],
)
def test_the_share_of_validation_text_is_near_the_fraction_even_of_few_documents(lengths, val_fraction):
    cut = split_point(sum(lengths), val_fraction, "x", np.cumsum([0, *lengths[:-1]]))
    assert 2 / 3 <= (1 - cut / sum(lengths)) / val_fraction <= 1.5


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30), st.floats(0.01, 0.5))
def test_the_share_is_near_the_fraction_of_any_documents(lengths: list[int], val_fraction: float):
    length = sum(lengths) + 1000
    cut = split_point(length, val_fraction, "x", np.cumsum([0, *lengths]))
    assert val_fraction / 1.51 <= (length - cut) / length <= val_fraction * 1.51


def test_every_source_trains_with_its_first_documents_and_validates_with_its_last():
    documents = np.array([(0, 0, 2.0), (100, 0, 2.0), (182, 0, 2.0), (200, 1, 0.5)], dtype=DOCUMENT)
    train, val = split_sources(documents, 300, 0.1, Path("x"))
    assert train == [Span(0, 182, 2.0), Span(200, 290, 0.5)]
    assert val == [Span(182, 200), Span(290, 300)]


def test_a_source_that_is_too_short_is_named():
    documents = np.array([(0, 0, 1.0), (290, 1, 1.0)], dtype=DOCUMENT)
    with pytest.raises(TextError, match=r"source 2 of x is too short: .* of its 10 characters"):
        split_sources(documents, 300, 0.1, Path("x"))
    with pytest.raises(TextError, match=r"^x is too short: .* of its 10 characters"):
        split_sources(documents[:1], 10, 0.1, Path("x"))


@given(st.lists(st.text(max_size=6)), st.lists(st.integers(0, 30), min_size=1, max_size=6))
def test_spans_are_cut_out_of_pieces(pieces: list[str], cuts: list[int]):
    whole = "".join(pieces)
    bounds = sorted(cuts)
    spans = [Span(start, end) for start, end in pairwise(bounds)][::2]
    found = ["".join(text) for text in read_spans(pieces, spans)]
    assert found == [whole[span.start : span.end] for span in spans]
