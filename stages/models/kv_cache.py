"""The KV cache: what a model keeps of past positions, so that each token is processed once."""

import torch
from torch import Tensor

from stages.models.ngram.expert_scores import ExpertScores

MIN_SPARE = 64  # free positions, at least, in a new buffer; when it is full, the kept ones are copied to another


class LayerCache:
    """The keys and values of one layer.

    Args:
        max_past: positions to keep; older ones are evicted.
    """

    def __init__(self, max_past: int) -> None:
        self.max_past, self.length = max_past, 0
        self._buffer: Tensor | None = None  # 2, B, H, positions, E

    def extend(self, new: Tensor) -> Tensor:
        """Append positions, (2, B, H, T, E); return the kept positions, at most `max_past`, and the new ones."""
        count, kept = new.shape[3], min(self.length, self.max_past)
        if self._buffer is None or self.length + count > self._buffer.shape[3]:
            size = kept + count + max(self.max_past, MIN_SPARE)
            buffer = new.new_empty((*new.shape[:3], size, new.shape[4]))
            if self._buffer is not None:
                buffer[:, :, :, :kept] = self._buffer[:, :, :, self.length - kept : self.length]
            self._buffer, self.length = buffer, kept
        start, self.length = self.length, self.length + count
        self._buffer[:, :, :, start : self.length] = new
        return self._buffer[:, :, :, start - kept : self.length]

    def kept(self) -> Tensor:
        """Return the kept keys and values, (2, B, H, at most `max_past`, E)."""
        assert self._buffer is not None, "nothing has been appended"
        return self._buffer[:, :, :, max(0, self.length - self.max_past) : self.length]


class KVCache:
    """The keys and values of every layer, the token ids that they belong to, and the recent scores of the experts.

    Args:
        max_past: positions that each layer keeps.
        max_past_ids: token ids to keep.
    """

    def __init__(self, max_past: int, max_past_ids: int) -> None:
        self.max_past, self.max_past_ids = max_past, max_past_ids
        self.length = 0  # positions processed so far
        self.ids: Tensor | None = None  # the kept ids and the latest ones, (B, at most max_past_ids + T)
        self.scores = ExpertScores()
        self._layers: dict[object, LayerCache] = {}

    def layer(self, key: object) -> LayerCache:
        """Return the cache of a layer."""
        return self._layers.setdefault(key, LayerCache(self.max_past))

    def append(self, ids: Tensor) -> int:
        """Append token ids, (B, T), and return the position of the first one."""
        start = self.length
        self.length += ids.shape[1]
        if self.ids is None:
            self.ids = ids
        else:
            kept = min(self.ids.shape[1], self.max_past_ids)
            self.ids = torch.cat((self.ids[:, self.ids.shape[1] - kept :], ids), dim=1)
        return start

    def extend(self, key: object, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append keys and values of a layer, (B, H, T, E) each, and return all that its queries may attend to.

        The cache is float32, whatever the precision of the layer.
        """
        layer = self.layer(key)
        is_first = layer.length == 0
        keys, values = layer.extend(torch.stack((k, v)).float()).unbind(0)
        return (k, v) if is_first else (keys.to(k.dtype), values.to(v.dtype))
