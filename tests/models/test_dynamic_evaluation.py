import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.models.base import build_model
from stages.models.dynamic_evaluation import BETA2, EPSILON, EQUAL_SHARE, LEARNING_RATES, LearnerMixture, OutputLearner
from stages.models.gpt import GPT
from tests.conftest import model_params

VOCAB_SIZE, WIDTH = 5, 8
CHUNKS = torch.randn(20, 1, 6, WIDTH, generator=torch.Generator().manual_seed(1))
TARGETS = CHUNKS[:, 0, :, :VOCAB_SIZE].argmax(-1)  # can be learned from the inputs


def linear(weights: list[Tensor], inputs: Tensor) -> Tensor:
    return inputs @ weights[0].T + weights[1]


def test_each_step_is_that_of_adam_without_momentum():
    weights = [torch.randn(VOCAB_SIZE, WIDTH), torch.zeros(VOCAB_SIZE)]
    expected = [weight.clone().requires_grad_() for weight in weights]
    optimizer = torch.optim.Adam(expected, lr=0.01, betas=(0.0, BETA2), eps=EPSILON)
    learner = OutputLearner(weights, linear, 0.01)
    for inputs, targets in zip(CHUNKS, TARGETS, strict=True):
        with torch.inference_mode():
            logits = learner.logits(inputs)
            loss = learner.learn(targets)
        expected_logits = linear(expected, inputs)
        torch.testing.assert_close(logits, expected_logits.detach())
        optimizer.zero_grad()
        expected_loss = F.cross_entropy(expected_logits[0], targets)
        assert loss == pytest.approx(expected_loss.item(), rel=1e-5)
        expected_loss.backward()
        optimizer.step()


def test_copies_are_mixed_by_how_likely_they_have_made_the_text():
    weights = [torch.randn(VOCAB_SIZE, WIDTH), torch.zeros(VOCAB_SIZE)]
    mixture = LearnerMixture(weights, linear)
    copies = [OutputLearner(weights, linear, rate) for rate in LEARNING_RATES]
    shares = torch.full((len(copies),), 1 / len(copies), dtype=torch.float64)
    for inputs, targets in zip(CHUNKS, TARGETS, strict=True):
        with torch.inference_mode():
            mixed = mixture.log_probs(inputs)[0]
            mixture.learn(targets)
            probs = torch.stack([copy.logits(inputs)[0].softmax(-1) for copy in copies])
            for copy in copies:
                copy.learn(targets)
        torch.testing.assert_close(mixed.exp(), torch.einsum("k,ktv->tv", shares.float(), probs))
        likelihoods = probs[:, torch.arange(len(targets)), targets].double().prod(1) * shares
        shares = (1 - EQUAL_SHARE) * likelihoods / likelihoods.sum() + EQUAL_SHARE / len(copies)


def test_a_copy_that_was_bad_can_become_the_best():
    certain = torch.tensor([50.0, -50.0])
    mixture = LearnerMixture([torch.zeros(1)], lambda weights, logits: logits + 0 * weights[0])
    mixture.learners[1].predict = lambda weights, logits: -logits + 0 * weights[0]  # predicts the opposite
    for logits in (certain, -certain):
        mixture.log_probs(logits.expand(1, 40, 2))
        mixture.learn(torch.zeros(40, dtype=torch.int64))
    assert mixture.log_probs(-certain[None, None]).exp()[0, 0, 0] > 0.9


def test_the_loss_of_a_model_falls_and_its_weights_stay(monkeypatch):
    torch.manual_seed(1)
    model = build_model(model_params(prior="kneser_ney", block_size=16), VOCAB_SIZE).eval()
    assert isinstance(model, GPT)
    unlike, text = torch.randint(VOCAB_SIZE, (200,)), torch.arange(400) % VOCAB_SIZE
    model.fit(unlike)
    with torch.no_grad():
        model.head.normal_(std=0.1)
        before = [weight.clone() for weight in model.parameters()]
    losses = []
    for rate in (0.0, 0.01):
        monkeypatch.setattr("stages.models.dynamic_evaluation.LEARNING_RATES", (rate,))
        logits = torch.cat(list(model.adaptive_logits(torch.cat((unlike, text)), 200, 20)), dim=1)[0]
        losses.append(F.cross_entropy(logits, text).item())
    assert losses[1] < losses[0] - 0.02
    assert all(torch.equal(weight, old) for weight, old in zip(model.parameters(), before, strict=True))
