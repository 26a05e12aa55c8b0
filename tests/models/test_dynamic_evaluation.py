import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

from stages.models.base import build_model
from stages.models.dynamic_evaluation import BETA2, EPSILON, LEARNING_RATE, OutputLearner
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
    optimizer = torch.optim.Adam(expected, lr=LEARNING_RATE, betas=(0.0, BETA2), eps=EPSILON)
    learner = OutputLearner(weights, linear)
    for inputs, targets in zip(CHUNKS, TARGETS, strict=True):
        with torch.inference_mode():
            logits = learner.logits(inputs)
            learner.learn(targets)
        expected_logits = linear(expected, inputs)
        torch.testing.assert_close(logits, expected_logits.detach())
        optimizer.zero_grad()
        F.cross_entropy(expected_logits[0], targets).backward()
        optimizer.step()


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
        monkeypatch.setattr("stages.models.dynamic_evaluation.LEARNING_RATE", rate)
        logits = torch.cat(list(model.adaptive_logits(torch.cat((unlike, text)), 200, 20)), dim=1)[0]
        losses.append(F.cross_entropy(logits, text).item())
    assert losses[1] < losses[0] - 0.02
    assert all(torch.equal(weight, old) for weight, old in zip(model.parameters(), before, strict=True))
