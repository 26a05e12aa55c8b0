import pytest
import torch
from torch import Tensor

from stages.models.ngram.expert_scores import ExpertScores, num_score_features

HORIZONS = (4.0, 16.0, 64.0)
GENERATOR = torch.Generator().manual_seed(3)
IDS = torch.randint(5, (2, 30), generator=GENERATOR)
LOG_PROBS = torch.randn(2, 30, 3, 5, generator=GENERATOR).mul(4).log_softmax(-1)


def naive_features(ids: Tensor, log_probs: Tensor) -> Tensor:
    """Follow the averages of one text from token to token."""
    averages = [[-2.0] * 3 for _ in HORIZONS]
    rows = []
    for position, token in enumerate(ids.tolist()):
        for index, horizon in enumerate(HORIZONS):
            for expert in range(3):
                score = max(-12.0, float(log_probs[position - 1, expert, token])) if position else -2.0
                averages[index][expert] += (score - averages[index][expert]) / horizon
        row = [[2.4 * (first + 2), 8 * (second - first), 8 * (third - first)] for first, second, third in averages]
        rows.append([value for values in row for value in values])
    return torch.tensor(rows)


def test_features_are_moving_averages_of_what_the_experts_gave_to_the_tokens():
    features = ExpertScores().extend(IDS, LOG_PROBS)
    assert features.shape == (2, 30, num_score_features(3))
    for text in range(2):
        torch.testing.assert_close(features[text], naive_features(IDS[text], LOG_PROBS[text]), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunks", [[1] * 30, [7, 23], [16, 1, 13]])
def test_a_text_may_grow_in_parts(chunks):
    scores = ExpertScores()
    parts = zip(IDS.split(chunks, 1), LOG_PROBS.split(chunks, 1), strict=True)
    features = torch.cat([scores.extend(ids, log_probs) for ids, log_probs in parts], dim=1)
    torch.testing.assert_close(features, ExpertScores().extend(IDS, LOG_PROBS), atol=1e-4, rtol=1e-4)


def test_a_step_extends_by_one_token():
    scores = ExpertScores()
    scores.extend(IDS[:, :5], LOG_PROBS[:, :5])
    features = [scores.step(IDS[:, at], LOG_PROBS[:, at]) for at in range(5, 30)]
    expected = ExpertScores().extend(IDS, LOG_PROBS)[:, 5:]
    torch.testing.assert_close(torch.stack(features, dim=1), expected, atol=1e-4, rtol=1e-4)


def test_an_impossible_token_counts_as_a_log_probability_of_minus_twelve():
    log_probs = torch.tensor([[[[0.0, -torch.inf]], [[0.0, -torch.inf]]]])  # one expert
    features = ExpertScores().extend(torch.tensor([[0, 1]]), log_probs)
    assert features[0, 1].tolist() == pytest.approx([-10 / horizon * 2.4 for horizon in HORIZONS])
