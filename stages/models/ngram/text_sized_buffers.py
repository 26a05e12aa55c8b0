"""A module whose buffers have sizes that depend on the training text."""

from torch import Tensor, nn


class TextSizedBuffers(nn.Module):
    """A module whose buffers take the sizes that they have in the state dict that is loaded."""

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        for name in list(self._buffers):
            if prefix + name in state_dict:
                setattr(self, name, state_dict[prefix + name].new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *rest)
