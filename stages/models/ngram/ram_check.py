"""Check that n-gram counts fit into memory before time is spent on counting."""

from pathlib import Path

from stages.core.errors import WorkError

# Bytes per token and per n-gram length, without and with cross-fitting: upper bounds of what `python -m
# benchmarks.scaling` measures on 4 million characters (10 and 36 with a small vocabulary, 37 and 89 with a large one).
SMALL_VOCAB_BYTES, LARGE_VOCAB_BYTES = (15, 40), (40, 95)
SMALL_VOCAB_SIZE = 256
# Most of the long n-grams occur once. Upper bounds for each length, from one measurement by a script, without a command
# in benchmarks/: 23 and 37 bytes per token of 3 million characters of mail and of a dictionary, 67 and 96 with
# cross-fitting.
SHORT_LENGTHS, LONG_BYTES = 7, (40, 110)
# At least, with cross-fitting: the contexts of words and lines are indexed afterwards. Measured in the same way: 189,
# 216 and 277 bytes per token of mail with order 3, 5 and 7, and no more than without them with order 10.
MIN_CROSS_FITTING_BYTES = 220


def bytes_per_token(ngram_order: int, vocab_size: int, cross_fitting: bool) -> int:
    """Return the memory that counting needs for each token of the text."""
    short = (SMALL_VOCAB_BYTES if vocab_size <= SMALL_VOCAB_SIZE else LARGE_VOCAB_BYTES)[cross_fitting]
    long_lengths = max(0, ngram_order - SHORT_LENGTHS)
    total = short * (ngram_order - long_lengths) + LONG_BYTES[cross_fitting] * long_lengths
    return max(total, MIN_CROSS_FITTING_BYTES) if cross_fitting else total


def check_memory(tokens: int, ngram_order: int, vocab_size: int, cross_fitting: bool) -> None:
    """Check that the n-grams of a text can be counted in the free memory.

    Args:
        tokens: length of the text.
        ngram_order: length of the longest n-grams.
        vocab_size: V.
        cross_fitting: whether counts without each fold are needed as well.

    Raises:
        WorkError: if they cannot; the message says how much memory is needed and free, and what to set.
    """
    needed = tokens * bytes_per_token(ngram_order, vocab_size, cross_fitting)
    free = free_bytes()
    if needed > free:
        shorter = range(2, ngram_order)
        fitting = [order for order in shorter if tokens * bytes_per_token(order, vocab_size, cross_fitting) <= free]
        remedies = [f"model.ngram_order: {fitting[-1]}"] if fitting else []
        fitting_tokens = int(free / needed * tokens)
        remedies += [f"train.max_tokens: {fitting_tokens}"] if fitting_tokens else []
        remedies += ["model.prior: none"] if cross_fitting else []
        advice = f"set {' or '.join(remedies)}" if remedies else "end other programs"
        raise WorkError(
            f"counting {tokens} tokens with model.ngram_order {ngram_order} needs about {_size(needed)}, but only "
            f"{_size(free)} are free; {advice}"
        )


def free_bytes() -> int:
    """Return the memory that this process may still use, limited by the machine and by its container."""
    free = [int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemAvailable")]
    limit, used = (_lines(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit and used and limit[0] != "max":
        free.append(int(limit[0]) - int(used[0]))
    return max(0, min(free)) if free else 1 << 62


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii").splitlines()
    except OSError:
        return []
