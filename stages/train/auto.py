"""Choose the settings that params.yaml leaves on `auto`, from the text and the budget of training time.

The rule is arithmetic: it depends on the size of the text, the size of its vocabulary and `budget`, and gives the same
settings on every machine. docs/auto.md shows measurements that its constants come from.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from stages.models.ngram.ngram_memory import bytes_per_token
from stages.tokenizers.token_files import SMALL_TEXT

MAX_TOKENS_PER_STEP, MIN_TOKENS_PER_STEP = 2048, 512
MIN_SHARE = 64  # tokens of a window, if several windows share those of a step
STEPS_FOR_SMALL_TEXT = 400  # if MAX_PASSES over a text are fewer steps than this, each step gets fewer tokens
MAX_LOGITS_PER_STEP = 8_000_000  # a training step holds about a dozen arrays of this many numbers
MAX_NGRAM_BYTES = 1_300_000_000
SLIDING_WINDOW, CROSS_FIT_FOLDS, HEAD_SIZE = 64, 10, 32
MIN_NGRAM_ORDER, MAX_NGRAM_ORDER = 7, 10
# Limits on the passes over the text, of which more overfit; between the limits, one pass for every so many tokens.
MAX_PASSES, MIN_PASSES, TOKENS_PER_PASS = 8.0, 4.0, 4000
BASE_STEPS = 1200  # wanted with budget 1; the steps and the size of the model grow with the square root of the budget
STEP_SECONDS = 0.05  # on the reference machine: 2,048 tokens, 2 layers, 128 wide, a vocabulary of 65
WIDTHS = (32, 64, 96, 128, 160, 192, 256, 320, 384, 512)
MIN_WIDTH_FOR_ANY_TEXT = 64
MAX_SHARE_OF_STEPS = 0.7  # the wanted steps are at most this share of those that the narrowest model can take
WEIGHTS_PER_TOKEN = 1.5  # largest number of weights in the blocks for each token of the text
FOUR_LAYER_BUDGET, FOUR_LAYER_WIDTH = 5.0, 128  # minutes and width from which the model has four layers; not measured
BUDGET_TOLERANCE = 0.2  # share by which a size may exceed the budget; the steps are then fewer
DROPOUT, PASSES_WITHOUT_DROPOUT = 0.1, 3.5
WEIGHT_DECAY, STEPS_WITHOUT_DECAY = 0.1, 1500  # a shorter training of a small text does not gain from it
MAX_WARMUP, WARMUP_SHARE, CURVE_POINTS = 20, 0.05, 12
BASE_BYTES = 380_000_000  # memory of PyTorch itself, per process
BYTES_PER_LOGIT = 50  # for each token of a step and entry of the vocabulary
BYTES_PER_ACTIVATION = 400  # for each token of a step, layer and channel


@dataclass(frozen=True)
class TextSize:
    """What the rule knows about a text.

    Attributes:
        train_tokens: tokens of the training part.
        val_tokens: tokens of the validation part.
        vocab_size: V.
    """

    train_tokens: int
    val_tokens: int
    vocab_size: int


@dataclass(frozen=True)
class Setting:
    """The value of one key.

    Attributes:
        key: "section.key", as in params.yaml.
        value: the value that training uses.
        reason: why the rule chose it.
    """

    key: str
    value: Any
    reason: str


class Settings:
    """The settings of a training run: those of params.yaml, and the rule's for the others.

    Args:
        model: explicit values of the section `model`.
        train: explicit values of the section `train`.

    Attributes:
        chosen: the values that are not explicit, in the order in which they were chosen.
        before_rule: the two sections before `choose_settings`.
    """

    def __init__(self, model: dict[str, Any], train: dict[str, Any]) -> None:
        self.model, self.train = dict(model), dict(train)
        self.chosen: list[Setting] = []
        self.before_rule: tuple[dict[str, Any], dict[str, Any]]

    def choose(self, key: str, value: Any, reason: str) -> Any:  # noqa: ANN401 - numbers, strings and booleans
        """Return the value of a key, after setting it to `value` if it has none."""
        section, _, name = key.partition(".")
        values = self.model if section == "model" else self.train
        if name in values:
            return values[name]
        values[name] = value
        self.chosen.append(Setting(key, value, reason))
        return value


def choose_settings(settings: Settings, text: TextSize, budget: float, processes: int = 1) -> None:
    """Choose every setting that is not explicit.

    Args:
        settings: the explicit settings; the others are added.
        text: the text.
        budget: minutes of training on the reference machine.
        processes: that share every batch.
    """
    settings.before_rule = dict(settings.model), dict(settings.train)
    choose_counts(settings, text)
    choose_window_sizes(settings, text, processes)
    tokens = used_tokens(settings, text)
    text = replace(text, train_tokens=tokens)
    steps_for_text = max_passes(tokens) * tokens / tokens_per_step(settings)
    choose_network_size(settings, text, min(steps_for_text, BASE_STEPS * budget**0.5), budget)
    choose_training(settings, text, steps_for_text, budget)


def choose_counts(settings: Settings, text: TextSize) -> None:
    """Choose which n-grams are counted, and how much of the text is used."""
    choose = settings.choose
    if kind_of(settings) == "gpt":
        choose("model.prior", "kneser_ney", "n-grams and a network together are better than either")
    max_tokens, reason = 0, "all of the text"
    if counts_ngrams(settings):
        tokens = min(text.train_tokens, settings.train.get("max_tokens") or text.train_tokens)
        orders = range(MIN_NGRAM_ORDER, MAX_NGRAM_ORDER + 1)
        fitting = [order for order in orders if tokens * ngram_bytes(settings, text, order) <= MAX_NGRAM_BYTES]
        order = choose(
            "model.ngram_order", fitting[-1] if fitting else orders[0], f"up to {orders[-1]}, as far as memory allows"
        )
        limit = MAX_NGRAM_BYTES // ngram_bytes(settings, text, order)
        if text.train_tokens > limit:
            max_tokens, reason = limit, "n-gram counts in 1.3 GB"
        if kind_of(settings) == "gpt":
            choose("model.cross_fit_folds", CROSS_FIT_FOLDS, "more folds gained nothing")
            choose("model.cache_lm", True, "most texts repeat themselves")
            choose("model.context_experts", True, "words and tables repeat themselves")
    choose("train.max_tokens", max_tokens, reason)


def choose_window_sizes(settings: Settings, text: TextSize, processes: int) -> None:
    """Choose the context of the model, and the windows that training reads.

    A small text gets shorter training windows, so that a few passes over it are enough steps. Positions in `gpt` are
    relative, so afterwards it can use a longer context, if the windows are at least as long as its attention reaches.
    Windows that are read together, of an explicit batch size or by several processes, share the tokens of a step, but
    get MIN_SHARE tokens each if memory allows.
    """
    choose = settings.choose
    most_tokens = MAX_LOGITS_PER_STEP // text.vocab_size
    max_tokens_per_step = floor_power_of_two(min(MAX_TOKENS_PER_STEP, most_tokens))
    windows_per_step = settings.train.get("batch_size", processes)
    longest = min(text.val_tokens - 1, used_tokens(settings, text) // 10, max_tokens_per_step)
    tokens = max_tokens_per_step
    share = max(tokens // windows_per_step, min(MIN_SHARE, most_tokens // windows_per_step))
    block_size = floor_power_of_two(min(longest, share))
    window_size, reason = 0, "as model.block_size"
    if "block_size" not in settings.model and kind_of(settings) == "gpt":
        few_tokens = floor_power_of_two(int(MAX_PASSES * used_tokens(settings, text) / STEPS_FOR_SMALL_TEXT))
        few_tokens = min(max(few_tokens, MIN_TOKENS_PER_STEP), max_tokens_per_step)
        short_window = floor_power_of_two(few_tokens // windows_per_step)
        attention = settings.model.get("sliding_window", SLIDING_WINDOW) or block_size
        if short_window >= min(attention, block_size):
            tokens = few_tokens
            if short_window < block_size:
                window_size, reason = short_window, "more steps from a small text"
    is_shared = block_size < floor_power_of_two(longest)
    sharing = f"{windows_per_step} windows share {max_tokens_per_step} tokens, or get {MIN_SHARE} each"
    limits = f"a power of two, at most {max_tokens_per_step}, the validation text and a tenth of the text"
    choose("model.block_size", block_size, sharing if is_shared else limits)
    choose("train.window_size", window_size, reason)
    if kind_of(settings) == "gpt":
        attention = min(SLIDING_WINDOW, settings.model["block_size"])
        has_cache = counts_ngrams(settings) and settings.model["cache_lm"]
        reason = "the cache language model sees the rest of the window" if has_cache else "constant; 0: the whole block"
        choose("model.sliding_window", attention, reason)
    batch_size = max(1, tokens // window_size_of(settings) // processes) * processes
    choose("train.batch_size", batch_size, f"{batch_size * window_size_of(settings)} tokens per step")


def choose_network_size(settings: Settings, text: TextSize, wanted_steps: float, budget: float) -> None:
    """Choose the largest network that the text can train, and that can take the wanted steps within the budget."""
    choose = settings.choose
    is_deep = budget >= FOUR_LAYER_BUDGET and WEIGHTS_PER_TOKEN * text.train_tokens >= 12 * 4 * FOUR_LAYER_WIDTH**2
    layers = choose("model.n_layer", 4 if is_deep else 2, "4 needs a budget of 5 and half a million tokens")
    seconds = 60 * budget
    affordable_steps = seconds / step_seconds(settings, text.vocab_size, layers, WIDTHS[0])
    # With a large vocabulary even the narrowest model cannot take the wanted steps, and width costs little.
    wanted_steps = min(wanted_steps, MAX_SHARE_OF_STEPS * affordable_steps)
    largest = max(MIN_WIDTH_FOR_ANY_TEXT, (WEIGHTS_PER_TOKEN * text.train_tokens / (12 * layers)) ** 0.5)
    widths = [
        width
        for width in WIDTHS
        if width <= largest
        and wanted_steps * step_seconds(settings, text.vocab_size, layers, width) <= seconds * (1 + BUDGET_TOLERANCE)
    ]
    width = max(widths, default=WIDTHS[0])
    if "n_head" in settings.model:
        multiple = 2 * settings.model["n_head"]
        width = max(1, width // multiple) * multiple
    width = choose("model.n_embd", width, "the largest for the text and the budget")
    choose("model.n_head", divisor_near(width, width / HEAD_SIZE), "heads of about 32")


def choose_training(settings: Settings, text: TextSize, steps_for_text: float, budget: float) -> None:
    """Choose the steps, the learning rates and the regularization."""
    choose = settings.choose
    affordable = 60 * budget / step_seconds(settings, text.vocab_size)
    reason = (
        f"{max_passes(text.train_tokens):.1f} passes over the text" if steps_for_text < affordable else "the budget"
    )
    steps = choose("train.max_steps", max(1, round(min(steps_for_text, affordable))), reason)
    choose("train.warmup_steps", min(MAX_WARMUP, math.ceil(WARMUP_SHARE * steps)), "a twentieth, at most 20")
    choose("train.eval_every", math.ceil(steps / CURVE_POINTS), "twelve points of the learning curve")
    passes = steps * tokens_per_step(settings) / text.train_tokens  # rounded with the steps
    overfits = passes > PASSES_WITHOUT_DROPOUT
    choose("model.dropout", DROPOUT if overfits else 0.0, f"the text is read {passes:.1f} times")
    is_muon = settings.train.get("optimizer", "muon") == "muon"
    choose("train.lr", 0.02 if is_muon else 0.001, f"the default for {settings.train.get('optimizer', 'muon')}")
    choose("train.lr_embedding", 0.02, "the default for muon")
    choose("train.lr_head", 0.003, "the default for muon")
    has_decay = overfits and steps > STEPS_WITHOUT_DECAY
    reason = "for many steps" if has_decay else "few steps, or few passes over the text, need none"
    choose("train.weight_decay", WEIGHT_DECAY if has_decay else 0.0, reason)


def describe_settings(settings: Settings, text: TextSize, budget: float, processes: int = 1) -> list[str]:
    """Return lines that say what the rule chose, why, and what to expect of the training.

    The arguments are those of `choose_settings`, which has been called.
    """
    rows = [(setting.key, str(setting.value), setting.reason) for setting in settings.chosen]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(2)]
    lines = [f"{key:{widths[0]}}  {value:{widths[1]}}  {reason}" for key, value, reason in rows]
    if rows:
        size = f"{text.train_tokens} training tokens, a vocabulary of {text.vocab_size} and budget {budget:g}"
        lines.insert(0, f"chosen for {size}:")
    if kind_of(settings) == "gpt":
        seconds = settings.train["max_steps"] * step_seconds(settings, text.vocab_size)
        megabytes = training_bytes(settings, text, processes) / 1e6
        lines.append(
            f"expected: {max(1, seconds):.0f} s of steps on two idle CPU cores that are fast in bfloat16 (up to "
            f"three times as long on others), and {megabytes:.0f} MB of memory"
        )
        if settings.chosen and not budget_matters(settings, text, budget, processes):
            lines.append("a larger budget gives the same settings")
    if used_tokens(settings, text) < SMALL_TEXT:
        lines.append(
            "this text is small: samples will repeat it, and the losses depend on which part of it is validation text"
        )
    return lines


def budget_matters(settings: Settings, text: TextSize, budget: float, processes: int = 1) -> bool:
    """Return whether ten times the budget gives other settings."""
    larger = Settings(*settings.before_rule)
    choose_settings(larger, text, 10 * budget, processes)
    return (larger.model, larger.train) != (settings.model, settings.train)


def training_bytes(settings: Settings, text: TextSize, processes: int = 1) -> int:
    """Return the memory that training needs on a CPU, roughly; every process has counts of its own."""
    counts = ngram_bytes(settings, text, settings.model["ngram_order"]) if counts_ngrams(settings) else 0
    batch: int = settings.train["batch_size"] * window_size_of(settings)
    channels: int = settings.model["n_layer"] * settings.model["n_embd"]
    arrays = batch * (BYTES_PER_LOGIT * text.vocab_size + BYTES_PER_ACTIVATION * channels)
    return processes * (BASE_BYTES + counts * used_tokens(settings, text)) + arrays


def kind_of(settings: Settings) -> str:
    """Return `model.kind`."""
    kind: str = settings.model.get("kind", "gpt")
    return kind


def counts_ngrams(settings: Settings) -> bool:
    """Return whether the model counts n-grams."""
    return kind_of(settings) == "kneser_ney" or (kind_of(settings) == "gpt" and settings.model["prior"] != "none")


def ngram_bytes(settings: Settings, text: TextSize, order: int) -> int:
    """Return the memory that counting n-grams needs for each token."""
    return bytes_per_token(order, text.vocab_size, cross_fitting=kind_of(settings) == "gpt")


def max_passes(tokens: int) -> float:
    """Return how often a text of so many tokens may be read."""
    return min(MAX_PASSES, max(MIN_PASSES, tokens / TOKENS_PER_PASS))


def used_tokens(settings: Settings, text: TextSize) -> int:
    """Return the number of training tokens that are used."""
    return min(text.train_tokens, settings.train["max_tokens"] or text.train_tokens)


def tokens_per_step(settings: Settings) -> int:
    """Return the tokens that an optimizer step predicts."""
    batches: int = settings.train.get("grad_accum_steps", 1)
    return batches * int(settings.train["batch_size"]) * window_size_of(settings)


def window_size_of(settings: Settings) -> int:
    """Return the number of tokens in a training window."""
    return int(settings.train["window_size"] or settings.model["block_size"])


def step_seconds(settings: Settings, vocab_size: int, n_layer: int | None = None, n_embd: int | None = None) -> float:
    """Return the expected time of a step on the reference machine, by default for the chosen size.

    Half a dozen sizes and vocabularies were measured; n-grams take a quarter of the time of the default.

    Args:
        settings: settings with the windows and the batch size.
        vocab_size: V.
        n_layer: number of layers; None: the chosen one.
        n_embd: width; None: the chosen one.
    """
    n_layer, n_embd = n_layer or settings.model["n_layer"], n_embd or settings.model["n_embd"]
    network = n_layer / 2 * (n_embd / 128) ** 2
    cost = 0.25 + 0.75 * network + 0.0012 * (vocab_size - 65)
    return STEP_SECONDS * max(0.2, cost) * tokens_per_step(settings) / MAX_TOKENS_PER_STEP


def floor_power_of_two(value: int) -> int:
    """Return the largest power of two that is at most `value`, or 1."""
    return 1 << max(0, value.bit_length() - 1)


def divisor_near(width: int, heads: float) -> int:
    """Return the divisor of width / 2 that is closest to `heads`, so that heads have an even size; at most 256."""
    counts = (n for n in range(1, min(width // 2, 256) + 1) if width % (2 * n) == 0)
    return min(counts, key=lambda n: abs(n - heads), default=1)
