"""Dynamic evaluation of the output layer of `gpt`: it learns from a text while the text is read.

After Krause et al. 2018, "Dynamic Evaluation of Neural Sequence Models" (arXiv:1709.07432). Only this layer learns, so
that no gradient has to pass through the network.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the usual name

LEARNING_RATE, DECAY, EPSILON = 2e-4, 0.999, 1e-8


class OutputLearner:
    """Copies of the weights of an output layer, which learn from each chunk of a text after it has been predicted.

    Adam (Kingma & Ba 2015, arXiv:1412.6980) without momentum.

    Args:
        weights: of the trained model, which keeps them.
        predict: returns logits, (1, T, V), from the weights and the arguments of `logits`.
    """

    def __init__(self, weights: Sequence[Tensor], predict: Callable[..., Tensor]) -> None:
        with torch.inference_mode(False):
            self.weights = [weight.detach().clone().requires_grad_() for weight in weights]
            self.squares = [torch.zeros_like(weight) for weight in weights]
        self.predict, self.steps = predict, 0

    def logits(self, *inputs: Tensor) -> Tensor:
        """Return the logits of a chunk, (1, T, V), from the inputs of the output layer."""
        with torch.inference_mode(False), torch.enable_grad():
            self._logits = self.predict(self.weights, *(tensor.clone() for tensor in inputs))
        return self._logits.detach()

    def learn(self, targets: Tensor) -> None:
        """Make a step of Adam on the mean loss of the last chunk; `targets` are its tokens, (T,)."""
        with torch.inference_mode(False), torch.enable_grad():
            loss = F.cross_entropy(self._logits[0], targets.clone())
            gradients = torch.autograd.grad(loss, self.weights)
        self.steps += 1
        with torch.no_grad():
            for weight, square, gradient in zip(self.weights, self.squares, gradients, strict=True):
                square.lerp_(gradient.square(), 1 - DECAY)
                unbiased = square / (1 - DECAY**self.steps)
                weight.sub_(LEARNING_RATE * gradient / (unbiased.sqrt() + EPSILON))
