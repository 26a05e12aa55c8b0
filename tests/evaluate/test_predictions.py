import torch

from stages.evaluate.predictions import PredictionCollector, assemble_predictions, attention_maps
from stages.losses.window_losses import evaluate_loss
from stages.losses.windows import blockwise_windows
from stages.models.base import build_model
from tests.conftest import model_params, randomize

IDS = torch.randint(9, (24,), generator=torch.Generator().manual_seed(1))


def test_predictions_are_those_of_the_model():
    model = build_model(model_params(kind="bigram", block_size=4), 9).eval()
    collector = PredictionCollector(10)
    evaluate_loss(model, blockwise_windows(IDS, 4, 2), collector)
    token_ids, log_probs, top_ids, top_probs = collector.collected()
    assert torch.equal(token_ids, IDS[1:11])
    expected = model(IDS[None, :10])[0].log_softmax(-1)
    torch.testing.assert_close(log_probs, expected.gather(-1, IDS[1:11, None])[:, 0])
    torch.testing.assert_close(top_probs, expected.exp().topk(5).values)
    assert torch.equal(top_ids, expected.topk(5).indices)


def test_everything_for_the_report_is_recorded():
    model = randomize(build_model(model_params(n_layer=2), 9)).eval()
    collector = PredictionCollector(100)
    evaluate_loss(model, blockwise_windows(IDS, 32, 1), collector)
    predictions = assemble_predictions(collector, model, IDS[:6], short_block_size=8, stride=16)
    assert len(predictions.token_ids) == 23
    assert predictions.attention.shape == (2, 2, 6, 6)
    assert (predictions.block_size, predictions.short_block_size, predictions.stride) == (32, 8, 16)
    assert predictions.attention_ids.tolist() == IDS[:6].tolist()


def test_a_model_without_attention_has_no_maps():
    assert attention_maps(build_model(model_params(kind="bigram"), 9), IDS[:6]).shape == (0, 0, 0, 0)
