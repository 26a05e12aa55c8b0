"""Dynamic evaluation of the output layer of `gpt`: it learns from a text while the text is read.

After Krause et al. 2018, "Dynamic Evaluation of Neural Sequence Models" (arXiv:1709.07432). Only this layer learns, so
that no gradient has to pass through the network.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

LEARNING_RATE, BETA2, EPSILON = 2e-4, 0.999, 1e-8


class OutputLearner:
    """Copies of the weights of an output layer, which learn from each chunk of a text after it has been predicted.

    Adam (Kingma & Ba 2015, arXiv:1412.6980) with beta1 = 0, that is RMSProp with bias correction.

    Args:
        weights: weights of the output layer. They are copied, and the model stays unchanged.
        predict: returns logits, (1, T, V), from the weights and the arguments of `logits`.
    """

    def __init__(self, weights: Sequence[Tensor], predict: Callable[..., Tensor]) -> None:
        with torch.inference_mode(False):
            self.weights = [weight.detach().clone().requires_grad_() for weight in weights]
            self.second_moments = [torch.zeros_like(weight) for weight in weights]
        self.predict, self.steps = predict, 0

    def logits(self, *inputs: Tensor) -> Tensor:
        """Return the logits of a chunk, (1, T, V), from the inputs of the output layer."""
        with torch.inference_mode(False), torch.enable_grad():
            self._logits = self.predict(self.weights, *(tensor.clone() for tensor in inputs))
        return self._logits.detach()

    def learn(self, targets: Tensor) -> None:
        """Take one Adam step on the mean loss of the chunk that `logits` predicted last.

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
                weight.sub_(LEARNING_RATE * gradient / (unbiased.sqrt() + EPSILON))
