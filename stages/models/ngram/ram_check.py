"""Whether counting fits the memory that is free, said before hours are spent on finding out."""

from pathlib import Path

from stages.core.errors import WorkError
from stages.models.params import ModelParams

# Bytes a token, for each token of the longest n-gram, counting alone and with cross-fitting. `python -m
# benchmarks.scaling`: with cross-fitting 35 at order 7 and 27 at order 4 on 4 million characters, more on a small text,
# where it hardly matters; alone 10 and 12. Of pieces of words, 89 and 37 at order 7: fewer n-grams come twice.
FEW, MANY = (15, 40), (40, 95)
SMALL_VOCABULARY = 256


def check_memory(params: ModelParams, tokens: int, vocabulary_size: int) -> None:
    """Refuse to count a text for which there is no memory.

    Raises:
        WorkError: with what it would need, what is free, and what to set.
    """
    counts = params.kind == "kneser_ney"
    if not counts and (params.kind != "gpt" or params.prior != "kneser_ney"):
        return
    alone, cross_fitting = FEW if vocabulary_size <= SMALL_VOCABULARY else MANY
    needed = tokens * params.order * (alone if counts else cross_fitting)
    free = free_bytes()
    if needed > free:
        fits = int(free / needed * params.order)
        lower = f"model.order: {fits} would fit; or " if fits >= 2 else ""
        raise WorkError(
            f"counting {tokens} tokens at model.order {params.order} takes some {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free; {lower}set model.prior: none"
        )


def free_bytes() -> int:
    """Give the memory that this process may still take: of the machine, and of its container."""
    free = [int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable")]
    limit, used = (_lines(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit and used and limit[0] != "max":
        free.append(int(limit[0]) - int(used[0]))
    return max(0, min(free)) if free else 1 << 62


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []
