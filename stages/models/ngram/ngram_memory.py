"""How much memory n-gram counts need, checked before time is spent on counting."""

from pathlib import Path

from stages.core.device import control_groups, local_process_count
from stages.core.errors import WorkError
from stages.core.logs import log
from stages.models.ngram.word_line_contexts import CONTEXT_KINDS, CONTEXTS_PER_KIND

SMALL_VOCAB_SIZE = 256
SHORT_LENGTHS = 7
# Bytes per token for each n-gram length up to SHORT_LENGTHS and for each longer one, by (large vocabulary,
# cross-fitting). The first are upper bounds of what `python -m benchmarks.scaling` measures on 4 million characters: 10
# and 36 with a small vocabulary, 37 and 89 with a large one. The second are upper bounds of one measurement by a
# script, without a command in benchmarks/: 23 and 37 bytes per token of 3 million characters of mail and of a
# dictionary, 67 and 96 with cross-fitting. Most of the long n-grams occur once.
BYTES_PER_LENGTH = {
    (False, False): (15, 40),
    (True, False): (40, 40),
    (False, True): (40, 110),
    (True, True): (95, 110),
}
# Lower bound with cross-fitting: afterwards, word and line contexts are indexed, which needs this much for any order.
# Measured in the same way: 189, 216 and 277 bytes per token of mail with order 3, 5 and 7. With order 10, the index
# does not raise the peak.
MIN_CROSS_FITTING_BYTES = 220
# Counting along a text (`adaptive_experts.py`), measured in the same way on 2.9 million characters: 124 to 130 bytes
# per token with order 7, 161 if a million of them are predicted, 189 to 199 with order 10, and 89 with order 3. On 1.5
# million tokens of a vocabulary of 1,024: 174 to 267 with order 7, and 291 with order 10.
ADAPTIVE_BYTES_PER_LENGTH = {False: (25, 25), True: (60, 45)}
MIN_ADAPTIVE_BYTES = 100
# The evaluation counts at most so many tokens of a text, with a small and with a large vocabulary.
MAX_COUNTED_TOKENS, MAX_COUNTED_TOKENS_LARGE_VOCAB = 20_000_000, 8_000_000
MAX_ROWS = (1 << 31) - 1  # table rows and occurrences of contexts are numbered in 32 bits


def bytes_per_token(ngram_order: int, vocab_size: int, cross_fitting: bool) -> int:
    """Return the memory that counting needs for each token of the text."""
    total = _sum_over_lengths(ngram_order, *BYTES_PER_LENGTH[vocab_size > SMALL_VOCAB_SIZE, cross_fitting])
    return max(total, MIN_CROSS_FITTING_BYTES) if cross_fitting else total


def adaptive_bytes_per_token(ngram_order: int, vocab_size: int) -> int:
    """Return the memory that counting along a text needs for each of its tokens, counted or predicted."""
    total = _sum_over_lengths(ngram_order, *ADAPTIVE_BYTES_PER_LENGTH[vocab_size > SMALL_VOCAB_SIZE])
    return max(total, MIN_ADAPTIVE_BYTES)


def check_memory(tokens: int, ngram_order: int, vocab_size: int, cross_fitting: bool) -> None:
    """Check that the n-grams of a text can be counted in the free memory.

    Args:
        tokens: length of the text.
        ngram_order: length of the longest n-grams.
        vocab_size: V.
        cross_fitting: whether counts that leave out each fold are needed too, to train `gpt`.

    Raises:
        WorkError: if they cannot; the message says how much memory is needed and free, and what to set. It is raised
            also if there are more n-grams than 32 bits can number.
    """
    needed = tokens * bytes_per_token(ngram_order, vocab_size, cross_fitting)
    free = free_bytes() // local_process_count()  # every process counts for itself
    if needed > free:
        shorter = range(2, ngram_order)
        fitting = [order for order in shorter if tokens * bytes_per_token(order, vocab_size, cross_fitting) <= free]
        remedies = [f"model.ngram_order: {fitting[-1]}"] if fitting else []
        fitting_tokens = int(free / needed * tokens)
        remedies += [f"train.max_tokens: {fitting_tokens}"] if fitting_tokens else []
        remedies += ["model.prior: none"] if cross_fitting else []
        advice = f"set {' or '.join(remedies)}" if remedies else "close other programs"
        raise WorkError(
            f"counting {tokens} tokens with model.ngram_order {ngram_order} needs about {_size(needed)}, but only "
            f"{_size(free)} are free; {advice}"
        )
    most = MAX_ROWS // max(ngram_order, len(CONTEXT_KINDS) * CONTEXTS_PER_KIND)
    if cross_fitting and tokens > most:
        raise WorkError(
            f"{tokens} tokens are too many to count with model.ngram_order {ngram_order}; set train.max_tokens: {most}"
        )


def max_counted_tokens(vocab_size: int) -> int:
    """Return how many tokens of a text the evaluation counts at most."""
    return MAX_COUNTED_TOKENS if vocab_size <= SMALL_VOCAB_SIZE else MAX_COUNTED_TOKENS_LARGE_VOCAB


def countable_tokens(metric: str, tokens: int, vocab_size: int, per_token: int, predicted: int = 0) -> int:
    """Return how many tokens of the training text the evaluation counts: all, unless there are too many.

    Args:
        metric: name of what is measured, with which messages begin.
        tokens: length of the training text.
        vocab_size: V.
        per_token: bytes that each token needs.
        predicted: length of the text that is predicted; each of its tokens needs as many bytes, and none is left out.

    Raises:
        WorkError: if there is not enough free memory for the predicted tokens.
    """
    limit = min(tokens, max_counted_tokens(vocab_size))
    free = free_bytes()
    fitting = free // per_token - predicted
    if predicted and fitting < 1:
        raise WorkError(
            f"{metric}: reading {predicted} tokens needs about {_size(predicted * per_token)}, but only {_size(free)} "
            "are free; use a shorter text, or close other programs"
        )
    if fitting < limit:
        log.warning("%s: only %d of %d tokens are counted, for lack of memory", metric, max(1, fitting), tokens)
    return max(1, min(limit, fitting))


def free_bytes() -> int:
    """Return the bytes that this process may still use: the least that the machine and its control groups leave.

    Where neither can be read (macOS), the result is 2^62.
    """
    available = [line for line in _lines(Path("/proc/meminfo")) if line.startswith("MemAvailable")]
    free = [int(line.split()[1]) * 1024 for line in available]
    return max(0, min([1 << 62, *free, *map(_free_in_group, control_groups("memory"))]))


def _sum_over_lengths(ngram_order: int, short: int, long: int) -> int:
    """Return the bytes of all n-gram lengths, if each short and each long one needs so many."""
    long_lengths = max(0, ngram_order - SHORT_LENGTHS)
    return short * (ngram_order - long_lengths) + long * long_lengths


def _free_in_group(group: Path) -> int:
    """Return the bytes that a control group may still use, or 2^62 if it has no limit."""
    version_2 = (group / "memory.max").exists()
    names = ("memory.max", "memory.current") if version_2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    limit, used = (_lines(group / name) for name in names)
    if not limit or not used or limit[0] == "max":
        return 1 << 62
    # The used memory includes cached files, of which the kernel drops the inactive ones when memory is needed.
    key = "inactive_file" if version_2 else "total_inactive_file"
    cached = [int(value) for name, value in map(str.split, _lines(group / "memory.stat")) if name == key]
    return int(limit[0]) - int(used[0]) + sum(cached)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except OSError:
        return []
