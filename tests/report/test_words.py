"""Tables, colours and marks, each on a case that can be counted by hand."""

import math

import numpy as np
import pandas as pd
import torch

from stages.evaluate.predictions import Predictions, predict
from stages.models.base import build
from stages.report import difficulty, surprise
from stages.report.samples import marked, split_samples
from stages.tokenizers.char import CharTokenizer
from tests.conftest import model_params

TOKENIZER = CharTokenizer("\n ab")


def test_the_hardest_characters_come_first_and_rare_ones_do_not_count():
    ids = np.array([2, 3, 2, 3, 0])
    table = difficulty.of_tokens(ids, np.array([1.0, 5.0, 2.0, 7.0, 9.0]), TOKENIZER)
    assert table.to_numpy().tolist() == [["b", 2, 6.0], ["a", 2, 1.5]]


def test_contexts_are_the_three_characters_before():
    ids = TOKENIZER.encode("ab ab a").astype(np.int64)
    table = difficulty.of_contexts(np.concatenate((ids, ids)), np.arange(14.0), TOKENIZER)
    assert set(table["after"]) == {"ab␣", "b␣a", "␣ab"} & set(table["after"])
    assert dict(zip(table["after"], table["bits"], strict=True))["ab␣"] == np.mean([3, 6, 10, 13])
    assert len(difficulty.of_contexts(ids[:2], np.zeros(2), TOKENIZER)) == 0


def test_surprise_has_levels_by_bits():
    p = torch.tensor([1.0, 0.6, 0.5, 0.25, 2**-4.0, 2**-9.0])
    seen = Predictions(
        torch.tensor([2, 3, 0, 2, 3, 1]), p.log(), torch.zeros(6, 2, dtype=torch.int64), torch.ones(6, 2)
    )
    shown = surprise.characters(seen, TOKENIZER, 6)
    assert [each["level"] for each in shown] == [0, 1, 2, 3, 5, 7]
    assert [each["text"] for each in shown] == ["a", "b", "↵", "a", "b", " "]
    assert [each["ends"] for each in shown] == [False, False, True, False, False, False]


def test_predictions_are_the_model_s():
    model = build(model_params(kind="bigram", block_size=4), 9)
    ids = torch.randint(9, (24,), generator=torch.Generator().manual_seed(1))
    seen = predict(model, ids, 10)
    assert torch.equal(seen.ids, ids[1:11])
    expected = model(ids[None, :10])[0].log_softmax(-1)
    torch.testing.assert_close(seen.log_p, expected.gather(-1, ids[1:11, None])[:, 0])
    torch.testing.assert_close(seen.top_p, expected.exp().topk(5).values)
    assert len(predict(model, ids, 1000).ids) == 23


def test_copied_pieces_are_marked_and_the_text_stays_whole():
    train = TOKENIZER.encode("abba baab ab\nba aab abb ba\n" * 2)
    text = "bbbbbbb" + "abba baab ab\nba aab abb" + "bbb"
    found = marked([text], torch.from_numpy(train), TOKENIZER)
    assert "".join(piece for piece, _ in found.samples[0]) == text
    assert [piece for piece, copied in found.samples[0] if copied] == ["abba baab ab\nba aab abb"]
    assert found.found.longest == 23


def test_samples_are_found_in_their_file():
    assert split_samples("--- sample 1 ---\na\n\nb\n--- sample 2 ---\n c\n") == ["a\n\nb", " c"]


def test_calibration_of_known_probabilities():
    """A model that says 0.75 and is right three times of four is calibrated; one that says more is not."""
    from stages.metrics.losses import Windows, measure

    for said, right in ((0.75, 3), (0.95, 3), (0.75, 1)):
        model = build(model_params(kind="bigram", block_size=4), 2)
        model.table.weight.data = torch.tensor([[math.log(said / (1 - said)), 0.0]] * 2)
        targets = torch.tensor([[0] * right + [1] * (4 - right)])
        measured = measure(model, [Windows(torch.zeros(1, 4, dtype=torch.int64), targets)]).calibration
        assert math.isclose(measured.error, abs(said - right / 4), abs_tol=1e-6)
        assert measured.counts.sum() == 4


def test_no_row_is_at_both_ends():
    first, last = difficulty.ends(pd.DataFrame({"bits": [5, 4, 3, 2, 1]}))
    assert (first["bits"].tolist(), last["bits"].tolist()) == ([5, 4], [1, 2])
