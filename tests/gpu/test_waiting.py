"""How often training and generation wait for a GPU; what a GPU computes in another way than the CPU."""

import warnings
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from stages.core.compute_params import ComputeParams
from stages.generation.params import SamplingParams
from stages.generation.streaming import stream_tokens
from stages.models.base import LanguageModel, build_model
from stages.models.gpt import GPT
from stages.models.ngram import backoff_table
from stages.models.ngram.backoff_table import BackoffTable
from stages.models.ngram.counts import count_ngrams
from stages.models.ngram.smoothing import build_backoff_table
from stages.models.ngram.window_matches import MatchingPairs, MatchMatrix
from stages.train.setup import prepare_training
from tests.conftest import model_params, randomize, runtime_params, train_params
from tests.gpu.standin import DEVICE, WAITS, on_standin


@pytest.fixture(autouse=True)
def _sparse_rows(monkeypatch):
    # So that a small text also has sparse rows.
    monkeypatch.setattr("stages.models.ngram.smoothing.MAX_DENSE_ENTRIES", 600)
    monkeypatch.setattr("stages.models.ngram.cross_fitting.MAX_FOLD_DENSE_ENTRIES", 600)


WITH_EXPERTS = model_params(prior="kneser_ney", ngram_order=5, cache_lm=True, block_size=32, sliding_window=8)


@pytest.mark.parametrize(
    "options",
    [{}, {"grad_accum_steps": 2}, {"ema_decay": 0.9}, {"optimizer": "adamw", "lr": 0.003}, {"grad_clip": 1.0}],
    ids=str,
)
def test_training_waits_once_per_log_line(options, tokens, tokenizer):
    params = train_params(max_steps=10, eval_every=10, **options)
    waits = []
    with on_standin():
        on_device = tokens.to(DEVICE)
        _, trainer = prepare_training(
            WITH_EXPERTS, params, runtime_params(log_every=3), ComputeParams(), len(tokenizer), on_device, on_device
        )
        assert trainer
        trainer.train(after_step=lambda: waits.append(WAITS.total()))
    # The first step copies constants; the log lines are those of steps 3, 6 and 9.
    assert [after - before for before, after in pairwise(waits)] == [0, 1, 0, 0, 1, 0, 0, 1]


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("kind", ["gpt", "lecture_gpt", "bigram", "kneser_ney"])
def test_generation_waits_at_most_twice_per_token(kind, streams, tokens, tokenizer):
    model = fitted_model(kind, tokens, len(tokenizer))
    with on_standin():
        model.to(DEVICE)
        prompt = tokens[:20].long().expand(streams, -1).to(DEVICE)
        stream = stream_tokens(model, prompt, 30, SamplingParams(), [1] * streams)
        for _ in range(2):  # the prompt, and constants
            next(stream)
        WAITS.clear()
        assert len(list(stream)) == 28
        assert WAITS.total() <= 28


def fitted_model(kind: str, tokens: Tensor, vocab_size: int) -> LanguageModel:
    model = build_model(WITH_EXPERTS.model_copy(update={"kind": kind}), vocab_size)
    model.fit(tokens)
    randomize(model)
    return model.eval()


@pytest.mark.parametrize(("size", "batch", "length"), [(2, 1, 1), (2, 3, 17), (5, 2, 60), (300, 1, 60)])
@pytest.mark.parametrize("num_lengths", [1, 4, 9])
@pytest.mark.parametrize("max_entries", [1, 1 << 23])
@pytest.mark.parametrize("last_only", [False, True])
def test_the_matrix_of_matches_equals_the_list(size, batch, length, num_lengths, max_entries, last_only, monkeypatch):
    monkeypatch.setattr("stages.models.ngram.window_matches.MAX_MATRIX_ENTRIES", max_entries)
    torch.manual_seed(length)
    ids = torch.randint(size, (batch, length))
    ids[:, length // 2 :] = ids[:, : length - length // 2]  # a long match
    last = -(-length // 3) if last_only else length
    matrix, pairs = MatchMatrix.find(ids, num_lengths, last), MatchingPairs.find(ids, num_lengths, last)
    assert torch.equal(matrix.counts, pairs.counts)
    for lengths in {1, num_lengths}:
        weights, out = torch.rand(lengths, batch * last), torch.rand(batch * last, size)
        expected = pairs.add_followers(out.clone(), weights)
        torch.testing.assert_close(matrix.add_followers(out.clone(), weights), expected)


@pytest.mark.parametrize("max_entries", [1, 1 << 24])
@pytest.mark.parametrize("max_dense", [0, 100, 1 << 20])
def test_padded_rows_equal_the_list_of_entries(max_entries, max_dense, tokens, tokenizer, monkeypatch):
    monkeypatch.setattr(backoff_table, "MAX_PADDED_ENTRIES", max_entries)
    monkeypatch.setattr("stages.models.ngram.smoothing.MAX_DENSE_ENTRIES", max_dense)
    table = build_backoff_table(count_ngrams(tokens.numpy(), len(tokenizer), 5), len(tokenizer))
    first = table.first_rows
    last = torch.cat((first[1:], torch.tensor([len(table.backoff_weights)])))
    rows = (first + (torch.rand(40, 5) * (last - first)).long()) * (torch.rand(40, 5) < 0.8)
    rows[:, 0] = first[0]
    expected = table(rows)
    with on_standin():
        torch.testing.assert_close(table.to(DEVICE)(rows.to(DEVICE)).cpu(), expected)


def test_a_training_step_with_fixed_sizes_is_one_graph(tokens, tokenizer, monkeypatch):
    """On the CPU, because the compiler does not know the stand-in; with what a GPU computes."""

    def add_padded(self: BackoffTable, probs: Tensor, rows: Tensor) -> Tensor:
        for index in range(rows.shape[1]):
            max_length = self.max_row_lengths[self.dense_levels + index]
            probs = self._add_padded_entries(probs, rows[:, index], max_length)
        return probs

    model = build_model(WITH_EXPERTS, len(tokenizer))
    model.fit(tokens)
    randomize(model)
    positions = torch.arange(64).view(2, 32)
    ids = tokens[positions].long()
    expected = model(ids, train_positions=positions)
    monkeypatch.setattr(MatchingPairs, "find", MatchMatrix.find)
    monkeypatch.setattr(BackoffTable, "_add_entries", add_padded)
    monkeypatch.setattr(GPT, "_expert_outputs_uncompiled", GPT._expert_outputs)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.testing.assert_close(compiled(ids, train_positions=positions), expected)
