"""What attention remembers of a text that is being written, so that each character is read once."""

from torch import Tensor


class Cache:
    """Keys and values of every layer, for the positions read so far; `past` counts those."""

    def __init__(self) -> None:
        self.past = 0
        self._layers: dict[object, tuple[Tensor, int]] = {}

    def extend(self, layer: object, k: Tensor, v: Tensor, keep: int) -> tuple[Tensor, Tensor]:
        """Add new positions, (B, H, T, E) each, and give all of the last `keep` and the new ones, or fewer.

        The memory has room for twice what is kept, so that making room by moving everything back is seldom needed.
        """
        new = k.shape[2]
        held, used = self._layers.get(layer, (None, 0))
        kept = min(used, keep)
        if held is None or used + new > held.shape[3]:
            grown = k.new_empty((2, *k.shape[:2], kept + new + keep, k.shape[3]))
            if held is not None:
                grown[:, :, :, :kept] = held[:, :, :, used - kept : used]
            held, used = grown, kept
        held[0, :, :, used : used + new] = k
        held[1, :, :, used : used + new] = v
        self._layers[layer] = (held, used + new)
        keys, values = held[:, :, :, used - kept : used + new].unbind(0)
        return keys, values
