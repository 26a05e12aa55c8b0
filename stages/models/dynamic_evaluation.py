"""Dynamic evaluation of the output layer of `gpt`: it learns from a text while the text is read.

After Krause et al. 2018, "Dynamic Evaluation of Neural Sequence Models" (arXiv:1709.07432). Only this layer learns, so
that no gradient has to pass through the network. No single learning rate suits every text, so copies of the layer learn
at different rates. Their predictions are mixed: the weight of a copy is proportional to the probability that it gave to
the text (the fixed-share algorithm of Herbster & Warmuth 1998, "Tracking the Best Expert").
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

LEARNING_RATES, BETA2, EPSILON = (1e-4, 1e-3), 0.999, 1e-8
# After each chunk, this part of the total weight is divided equally among the copies, so that a copy that was bad can
# become the best one.
EQUAL_SHARE = 0.05


class LearnerMixture:
    """Copies of an output layer that learn from each chunk of a text after it has been predicted, and their mixture.

    Args:
        weights: weights of the output layer; they stay unchanged.
        predict: returns logits, (1, T, V), from the weights and the arguments of `log_probs`.
    """

    def __init__(self, weights: Sequence[Tensor], predict: Callable[..., Tensor]) -> None:
        self.learners = [OutputLearner(weights, predict, rate) for rate in LEARNING_RATES]
        self.log_weights = torch.zeros(len(self.learners), dtype=torch.float64).log_softmax(0)

    def log_probs(self, *inputs: Tensor) -> Tensor:
        """Return the log-probabilities of a chunk, (1, T, V), from the inputs of the output layer."""
        log_probs = [learner.logits(*inputs).log_softmax(-1) for learner in self.learners]
        weighted = [part + weight for part, weight in zip(log_probs, self.log_weights.tolist(), strict=True)]
        return torch.stack(weighted).logsumexp(0)

    def learn(self, targets: Tensor) -> None:
        """Learn from the chunk that `log_probs` predicted last, and weight the copies by their losses on it.

        Args:
            targets: the tokens of that chunk, (T,).
        """
        losses = torch.tensor([learner.learn(targets) for learner in self.learners], dtype=torch.float64)
        weights = (self.log_weights - losses * len(targets)).softmax(0)
        self.log_weights = ((1 - EQUAL_SHARE) * weights + EQUAL_SHARE / len(weights)).log()


class OutputLearner:
    """A copy of the weights of an output layer, which learns from each chunk by a step of Adam.

    Adam (Kingma & Ba 2015, arXiv:1412.6980) with beta1 = 0, that is RMSProp with bias correction.

    Args:
        weights: as in `LearnerMixture`.
        predict: as in `LearnerMixture`.
        learning_rate: of the steps.
    """

    def __init__(self, weights: Sequence[Tensor], predict: Callable[..., Tensor], learning_rate: float) -> None:
        with torch.inference_mode(False):
            self.weights = [weight.detach().clone().requires_grad_() for weight in weights]
            self.second_moments = [torch.zeros_like(weight) for weight in weights]
        self.predict, self.learning_rate, self.steps = predict, learning_rate, 0

    def logits(self, *inputs: Tensor) -> Tensor:
        """Return the logits of a chunk, (1, T, V), from the inputs of the output layer."""
        with torch.inference_mode(False), torch.enable_grad():
            self._logits = self.predict(self.weights, *(tensor.clone() for tensor in inputs))
        return self._logits.detach()

    def learn(self, targets: Tensor) -> float:
        """Take one step on the mean loss of the chunk that `logits` predicted last, and return this loss.

        Args:
            targets: the tokens of that chunk, (T,).
        """
        with torch.inference_mode(False), torch.enable_grad():
            loss = F.cross_entropy(self._logits[0], targets.clone())
            gradients = torch.autograd.grad(loss, self.weights)
        self.steps += 1
        with torch.no_grad():
            for weight, second_moment, gradient in zip(self.weights, self.second_moments, gradients, strict=True):
                second_moment.lerp_(gradient.square(), 1 - BETA2)
                unbiased = second_moment / (1 - BETA2**self.steps)
                weight.sub_(self.learning_rate * gradient / (unbiased.sqrt() + EPSILON))
        return loss.item()
