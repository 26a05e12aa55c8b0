"""Count what the default model asks of a GPU, on the stand-in: `python -m tests.gpu.operations`.

Prints, for a training step, a log line and a generated token, the operations that run on the device, without those that
only return another view of a tensor, and the most frequent ones; how often the program waits for the device; and the
bytes that are copied. The numbers are those of eager mode: `train.compile`, which is on by default on CUDA, fuses the
operations of the network. Needs the results of `dvc repro`.
"""

from collections import Counter
from pathlib import Path

import torch

from benchmarks.training_inputs import read_inputs
from stages.generation.params import SamplingParams
from stages.generation.streaming import stream_tokens
from stages.models.model_folder import load_model
from tests.gpu.standin import COPIED, OPERATIONS, WAITS, on_standin

VIEWS = {
    f"aten::{name}"
    for name in (
        *("_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "expand", "permute", "reshape", "select"),
        *("slice", "split", "squeeze", "t", "transpose", "unbind", "unsqueeze", "view", "chunk", "_fused_sdp_choice"),
    )
}


def report(what: str, count: int) -> None:
    """Print the counts since the last call, divided by `count`."""
    kernels = Counter({name[6:]: number for name, number in OPERATIONS.items() if name not in VIEWS})
    frequent = ", ".join(f"{name} {number / count:.0f}" for name, number in kernels.most_common(8))
    copied = ", ".join(f"{size / count:,.0f} bytes {direction}" for direction, size in COPIED.items()) or "nothing"
    print(f"{what}: {kernels.total() / count:.0f} operations ({frequent}); {WAITS.total() / count:.0f} waits; {copied}")
    for counter in (OPERATIONS, WAITS, COPIED):
        counter.clear()


def main() -> None:
    """Count the operations of a few steps and tokens."""
    with on_standin() as device:
        inputs = read_inputs()
        _, trainer = inputs.prepare_training()
        assert trainer
        trainer.model.train()
        trainer.take_step()
        report("the first step", 1)
        for _ in range(2):
            trainer.take_step()
        report("a training step", 2)
        trainer.check_finite()
        report("a log line", 1)
        model = load_model(Path("models")).model.to(device).eval()
        prompt = inputs.val[:1000].long()[None]
        tokens = stream_tokens(model, prompt, 12, SamplingParams(), [1])
        for _ in range(2):
            next(tokens)
        report("the first two tokens", 1)
        for _ in tokens:
            pass
        report("a generated token", 10)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
