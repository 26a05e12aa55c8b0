"""Measure where the time of a training step goes: `python -m benchmarks.step`.

Profiles steps of the run that params.yaml describes, and compares the matrix products with the arithmetic that the
cores do in a large product. Writes benchmarks/step.json and .md. Needs tokens (`dvc repro tokenize`).
"""

import statistics
import sys
import time

import pandas as pd
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.results import read_conditions, write_results
from benchmarks.training_inputs import read_inputs

WARM_UP, STEPS, SIZE, PRODUCTS = 5, 20, 1024, 20
KINDS = {
    "matrix products": ("mm", "bmm", "addmm", "baddbmm"),
    "attention": tuple(f"_scaled_dot_product_flash_attention_for_cpu{suffix}" for suffix in ("", "_backward")),
    "lookups of n-grams and embeddings": (
        "index", "index_select", "gather", "scatter_add_", "searchsorted", "index_put_", "_index_put_impl_", "sort",
        "nonzero", "bincount", "repeat_interleave", "cumsum", "embedding_dense_backward",
    ),
    "copies": ("copy_", "cat", "fill_", "zero_", "constant_pad_nd"),
}  # fmt: skip
OTHER_KIND = "element by element, sums, norms, and the rest"


def large_product() -> float:
    """Return the multiplications and additions per second, in billions, of a product of large matrices."""
    matrix = torch.randn(SIZE, SIZE)
    seconds = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    return 2 * SIZE**3 / statistics.median(seconds) / 1e9


def main() -> None:
    """Print and write the table."""
    conditions = read_conditions()
    _, trainer = read_inputs().prepare_training()
    if not trainer or trainer.val_windows.inputs.device.type != "cpu":
        sys.exit("params.yaml describes a model without training steps, or a GPU; set model.kind to gpt, device to cpu")
    trainer.model.train()
    for _ in range(WARM_UP):
        trainer.take_step()
    seconds = []
    for _ in range(STEPS):
        start = time.perf_counter()
        trainer.take_step()
        seconds.append(time.perf_counter() - start)
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiler:
        for _ in range(STEPS):
            trainer.take_step()
    kinds = {operator: kind for kind, operators in KINDS.items() for operator in operators}
    milliseconds: dict[str, float] = dict.fromkeys([*KINDS, OTHER_KIND], 0.0)
    flops = 0
    for event in profiler.key_averages():
        kind = kinds.get(event.key.removeprefix("aten::"), OTHER_KIND)
        milliseconds[kind] += event.self_cpu_time_total / STEPS / 1000
        flops += event.flops if kind == "matrix products" else 0
    total = sum(milliseconds.values())
    rows = [{"operators": kind, "ms": ms, "share": ms / total} for kind, ms in milliseconds.items()]
    rows.append({"operators": "all of them, slowed down by the profiler", "ms": total, "share": 1.0})
    step = pd.DataFrame(
        [
            {"a step": "without the profiler, median", "ms": 1000 * statistics.median(seconds)},
            {"a step": "its matrix products alone, as fast as large ones", "ms": flops / STEPS / large_product() / 1e6},
        ]
    )
    print(
        write_results(
            "step", conditions, pd.DataFrame(rows).round(4), step.round(2), formats={"ms": "{:.1f}", "share": "{:.0%}"}
        )
    )


if __name__ == "__main__":
    main()
