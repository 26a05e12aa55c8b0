"""Break the code in known ways, and check that a test fails each time: `python -m tests.mutations [NAME …]`.

Every mutation is applied to a copy of the working tree, in which the tests below run until the first failure. They
are a part of the default suite. Without names, all mutations run (ten minutes on two cores), and the table in
docs/testing.md is written.
"""

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.small_project import copy_work_tree

ROOT = Path(__file__).parent.parent
TESTS = ("tests/models", "tests/train", "tests/generation", "tests/losses", "tests/metrics")
GPU_TESTS = ("tests/gpu/test_waiting.py", "tests/gpu")
DOCUMENT = ROOT / "docs/testing.md"
TABLE = re.compile(r"(?<=<!-- mutations -->\n).*?(?=<!-- end of mutations -->)", re.DOTALL)


@dataclass(frozen=True)
class Mutation:
    """A change of one place in a file, which occurs exactly once, and the tests that should notice it."""

    path: str
    original: str
    replacement: str
    tests: tuple[str, ...] = TESTS


MUTATIONS = {
    "no rotary positions": Mutation(
        "stages/models/gpt_block.py", "return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)", "return x"
    ),
    "rotary base 10": Mutation("stages/models/gpt_block.py", "ROTARY_BASE = 1000.0", "ROTARY_BASE = 10.0"),
    "logits not capped": Mutation(
        "stages/models/gpt.py", "LOGIT_CAP * torch.tanh(linear(h, weights[0]).float() / LOGIT_CAP)", "linear(h, weights[0]).float()"
    ),
    "prior features zeroed": Mutation("stages/models/gpt.py", "x = x + linear((inputs", "x = x + 0 * linear((inputs"),
    "the share of counting left out": Mutation("stages/models/gpt.py", "NGRAM_MIX_WEIGHT = 0.02", "NGRAM_MIX_WEIGHT = 0.0"),
    "contexts see their own fold": Mutation(
        "stages/models/ngram/context_index.py", "size - self.fold_counts[:, positions]", "size"
    ),
    "the training text comes before the window": Mutation(
        "stages/models/ngram/context_index.py", "slot < window_counts[..., None], window_followers, text_followers", "slot < 0, window_followers, text_followers"
    ),
    "the case of a word matters": Mutation("stages/tokenizers/base.py", "text.casefold()", "text"),
    "the decoder forgets the words": Mutation(
        "stages/models/ngram/word_line_contexts.py", "torch.where(is_complete, words.current, words.previous)", "words.previous"
    ),
    "the decoder of one text forgets the words": Mutation(
        "stages/models/ngram/numpy_experts.py", "self.words = [0, *self.words[:2]]", "self.words = [0, 0, 0]"
    ),
    "the decoder of one text forgets no token": Mutation(
        "stages/models/ngram/numpy_experts.py", "seen[key].popleft()", "pass"
    ),
    "the decoder of one text attends to one token too few": Mutation(
        "stages/models/gpt_numpy_decoder.py", "max(0, self.end - 1 - self.max_past)", "max(0, self.end - self.max_past)"
    ),
    "expert gate left out": Mutation("stages/models/gpt.py", " + linear(h, hidden_gate).float()", ""),
    "recent scores do not reach the expert weights": Mutation(
        "stages/models/gpt.py", " + linear(scores, score_gate), log", ", log"
    ),
    "recent scores do not reach the network": Mutation(
        "stages/models/gpt.py", "            x = x + linear(scores, self.score_projection)\n", ""
    ),
    "decoder ignores recent scores": Mutation(
        "stages/models/gpt_torch_decoder.py", "        weights = torch.addmm(weights, scores, model.score_gate.t())\n", ""
    ),
    "recent scores one token late": Mutation(
        "stages/models/ngram/expert_scores.py", "_log_probs_of(ids[:, 1:], log_probs[:, :-1])", "_log_probs_of(ids[:, :-1], log_probs[:, :-1])"
    ),
    "strengths ignore the counts of the training text": Mutation(
        "stages/models/ngram/cache_lm.py", "STRENGTH_PER_COUNT * known", "0 * known"
    ),
    "the output layer does not learn": Mutation("stages/models/gpt.py", "mixture.learn(tokens[chunk])", "pass"),
    "the copies of the output layer are not weighted": Mutation(
        "stages/models/dynamic_evaluation.py", "self.log_weights - losses * len(targets)", "self.log_weights"
    ),
    "the output layer of the model itself learns": Mutation(
        "stages/models/dynamic_evaluation.py", "weight.detach().clone()", "weight.detach()"
    ),
    "a short last source is never sampled": Mutation(
        "stages/train/batches.py", "bounds.diff() * weights", "bounds.clamp(max=length - window_size).diff() * weights"
    ),
    "text is counted that training left out": Mutation(
        "stages/tokenizers/token_files.py",
        "if not 0 < max_tokens < len(tokens):",
        "if max_tokens >= 0:",
        ("tests/tokenizers/test_token_files.py",),
    ),
    "dropout ignored": Mutation("stages/models/gpt_block.py", "return F.dropout(x, self.dropout, self.training)", "return x"),
    "full counts instead of cross-fitted ones": Mutation(
        "stages/models/gpt.py", "        if train_positions is not None:\n", "        if False:\n"
    ),
    "causal mask left out": Mutation("stages/models/attention.py", "is_causal=True", "is_causal=False"),
    "mask of cached keys off by one": Mutation("stages/models/attention.py", "mask = key <= query", "mask = key < query + 2"),
    "sliding window off by one": Mutation(
        "stages/models/attention.py", "near = (key <= query) & (key > query - window)", "near = (key <= query) & (key >= query - window)"
    ),
    "positions restart with a KV cache": Mutation(
        "stages/models/lecture_layers.py", "start = kv_cache.append(ids) if kv_cache is not None else 0", "start = kv_cache.append(ids) * 0 if kv_cache is not None else 0"
    ),
    "discounts swapped": Mutation(
        "stages/models/ngram/smoothing.py", "1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2", "2 - 3 * y * n3 / n2, 1 - 2 * y * n2 / n1"
    ),
    "back-off weights ignored": Mutation("stages/models/ngram/backoff_table.py", "probs = probs * weights[:, :1]", "probs = probs * 1"),
    "cache language model left out": Mutation(
        "stages/models/ngram/ngram_experts.py", "torch.stack((probs, cache_probs, adapted_probs), dim=2)", "torch.stack((probs, bigram_probs, adapted_probs), dim=2)"
    ),
    "folds shifted by one token": Mutation(
        "stages/models/ngram/cross_fitting.py", "fold_of_position[index:] * np.int64(size)", "np.roll(fold_of_position, 1)[index:] * np.int64(size)"
    ),
    "constant learning rate": Mutation("stages/train/schedule.py", "return min(warmup, decay)", "return 1.0"),
    "no warm-up": Mutation("stages/train/schedule.py", "(step + 1) / warmup_steps if step < warmup_steps else 1.0", "1.0"),
    "momentum 0.5": Mutation("stages/train/schedule.py", "start: float = 0.85, end: float = 0.95", "start: float = 0.5, end: float = 0.5"),
    "Nesterov momentum left out": Mutation("stages/train/muon.py", "return matrix.grad.lerp(average, momentum)", "return average"),
    "weight decay ignored": Mutation("stages/train/muon.py", 'matrix.mul_(1 - param_group["lr"] * param_group["weight_decay"])', "pass"),
    "accumulated gradients not averaged": Mutation("stages/train/trainer.py", "torch.autograd.backward(loss / batch_count)", "torch.autograd.backward(loss)"),
    "gradient clipping ignored": Mutation("stages/train/trainer.py", "self.params.grad_clip or torch.inf", "torch.inf"),
    "averaged weights never applied": Mutation(
        "stages/train/trainer.py", "        self._swap_ema_weights()\n        for weight, best", "        for weight, best"
    ),
    "young average keeps its decay": Mutation("stages/train/trainer.py", "max(1 - self.params.ema_decay, 1 / (1 + self.step / 10))", "1 - self.params.ema_decay"),
    "targets not shifted": Mutation("stages/losses/windows.py", "tokens[positions + 1].long(), train", "tokens[positions].long(), train"),
    "temperature ignored": Mutation("stages/generation/sampling.py", " / params.temperature)", ")"),
    "top-p drops the token that crosses the threshold": Mutation("stages/generation/sampling.py", "more_likely = ordered.cumsum(-1) - ordered", "more_likely = ordered.cumsum(-1)"),
    "a layer too few for the last predictions": Mutation(
        "stages/models/gpt.py", "first - self.params.n_layer * (", "first - (self.params.n_layer - 1) * ("
    ),
    "sliding evaluation counts too much": Mutation("stages/losses/windows.py", "first_scored=block_size - stride)", "first_scored=block_size - stride - 1)"),
    "the text is counted before it is predicted": Mutation(
        "stages/models/ngram/adaptive_experts.py", "self.counts.read(start)", "self.counts.read(start + 9)"
    ),
    "a context expert sees the token to predict": Mutation(
        "stages/models/ngram/adaptive_experts.py", "ranks - 1 - back", "ranks - back"
    ),
    "floating-point cumulative sum on a GPU": Mutation(
        "stages/models/ngram/torch_experts.py", "match_weights = (longer / totals) @ up_to", "match_weights = (longer / totals).cumsum(1)", GPU_TESTS
    ),
    "unsigned tokens of 16 bits on a GPU": Mutation("stages/models/ngram/backoff_table.py", "return np.int16 if", "return np.uint16 if", GPU_TESTS),
    "a batch waits for the GPU": Mutation("stages/train/batches.py", "positions.to(self.tokens.device, non_blocking=True)", "positions.to(self.tokens.device)", GPU_TESTS),
    "constants copied to the GPU in every step": Mutation("stages/core/device.py", "@cache\ndef cached_tensor", "def cached_tensor", GPU_TESTS),
    "rows of variable length on a GPU": Mutation("stages/models/ngram/backoff_table.py", 'if rows.device.type == "cpu":', "if True:", GPU_TESTS),
    "matches listed on a GPU": Mutation(
        "stages/models/ngram/window_matches.py", 'MatchingPairs.find if ids.device.type == "cpu" else MatchMatrix.find', "MatchingPairs.find", GPU_TESTS
    ),
    "matches of a new token listed on a GPU": Mutation("stages/models/ngram/torch_experts.py", 'on_cpu = ids.device.type == "cpu"', "on_cpu = True", GPU_TESTS),
    "a log line waits twice": Mutation("stages/train/trainer.py", "self.check_finite():.3f", "self.check_finite() + 0 * float(self.losses[-1]):.3f", GPU_TESTS),
    "the average of the weights waits": Mutation("stages/train/trainer.py", "list(self.model.parameters()), rate)", "list(self.model.parameters()), float(self.losses[-1].new_tensor(rate)))", GPU_TESTS),
    "logits sampled on the GPU": Mutation("stages/generation/streaming.py", "decoder.step(ids).float().cpu()", "decoder.step(ids).float()", GPU_TESTS),
    "a position matches itself on a GPU": Mutation("stages/models/ngram/window_matches.py", ".tril(-1)", ".tril()", GPU_TESTS),
    "a compiled model used as a condition": Mutation(
        "stages/train/trainer.py", "model if forward_model is None else forward_model", "forward_model or model"
    ),
    "padding counts on a GPU": Mutation("stages/models/ngram/backoff_table.py", "self.probs[entries] * inside", "self.probs[entries]", GPU_TESTS),
}  # fmt: skip


NO_MUTATION = Mutation("stages/models/gpt.py", "class GPT(LanguageModel):", "class GPT(LanguageModel):")


def first_failure(mutation: Mutation) -> str | None:
    """Return the first test that fails with a mutation, or None if all pass."""
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary)
        copy_work_tree(copy)
        path = copy / mutation.path
        code = path.read_text()
        assert code.count(mutation.original) == 1, mutation
        path.write_text(code.replace(mutation.original, mutation.replacement))
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--no-header",
            "--tb=no",
            "-p",
            "no:cacheprovider",
            *mutation.tests,
        ]
        done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    match = re.search(r"^FAILED (\S+?)(?:\[|\s|$)", done.stdout, re.MULTILINE)
    return match[1] if match else None


def main(names: list[str]) -> None:
    """Run mutations, print the results, and exit with 1 if one was not noticed."""
    if failure := first_failure(NO_MUTATION):
        sys.exit(f"{failure} fails without a mutation; fix it first")
    results: dict[str, str | None] = {}
    for name in names or MUTATIONS:
        results[name] = first_failure(MUTATIONS[name])
        print(f"{name}: {results[name] or 'NOT NOTICED'}", flush=True)
    if not names:
        rows = [f"| {name} | `{MUTATIONS[name].path}` | `{test}` |" for name, test in results.items()]
        table = "\n".join(["| mutation | file | first test that fails |", "| --- | --- | --- |", *rows]) + "\n"
        DOCUMENT.write_text(TABLE.sub(lambda _: table, DOCUMENT.read_text()))
    sys.exit(any(test is None for test in results.values()))


if __name__ == "__main__":
    main(sys.argv[1:])
