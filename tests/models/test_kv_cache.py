import torch

from stages.models.kv_cache import LayerCache


def test_the_latest_positions_are_kept_also_after_a_long_prompt():
    cache = LayerCache(max_past=3)
    positions = torch.arange(8.0).expand(2, 1, 1, 8)[..., None]  # 2, B, H, T, E
    cache.extend(positions[:, :, :, :2])
    assert cache.kept()[0, 0, 0, :, 0].tolist() == [0, 1]
    cache.extend(positions[:, :, :, 2:])
    assert cache.kept()[0, 0, 0, :, 0].tolist() == [5, 6, 7]
    assert cache.kept().shape == (2, 1, 1, 3, 1)
