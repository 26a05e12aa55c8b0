"""What attention remembers of a text that grows, so that each character is read once."""

import torch
from torch import Tensor

SPARE = 64  # positions of room, at least, before what is kept is moved back


class Memory:
    """Keys and values of one layer, (2, B, H, positions, E): the last `keep` of those read, and what is new."""

    def __init__(self, keep: int) -> None:
        self.keep, self.used = keep, 0
        self._held: Tensor | None = None

    def extend(self, new: Tensor) -> Tensor:
        """Add new positions, (2, B, H, T, E); give what was kept, at most `keep` positions, and them."""
        length, kept = new.shape[3], min(self.used, self.keep)
        if self._held is None or self.used + length > self._held.shape[3]:
            room = new.new_empty((*new.shape[:3], kept + length + max(self.keep, SPARE), new.shape[4]))
            if self._held is not None:
                room[:, :, :, :kept] = self._held[:, :, :, self.used - kept : self.used]
            self._held, self.used = room, kept
        start, self.used = self.used, self.used + length
        self._held[:, :, :, start : self.used] = new
        return self._held[:, :, :, start - kept : self.used]


class Cache:
    """A memory for each layer; `past` counts the positions that a model has read."""

    def __init__(self, keep: int) -> None:
        self.keep, self.past = keep, 0
        self._memories: dict[object, Memory] = {}

    def memory(self, layer: object) -> Memory:
        """Give the memory of a layer."""
        return self._memories.setdefault(layer, Memory(self.keep))

    def extend(self, layer: object, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Add a layer's new keys and values, (B, H, T, E) each, and give those that its queries may see.

        They are kept in float32, in which writing goes on, whatever the precision of the window that was read first.
        """
        keys, values = self.memory(layer).extend(torch.stack((k, v)).float()).unbind(0)
        return keys, values
