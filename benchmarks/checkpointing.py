"""What saving the state costs the default run: `python -m benchmarks.checkpointing`. Needs tokens."""

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from ruamel.yaml import YAML

from stages.devices import prepare
from stages.params.compute import ComputeParams
from stages.params.model import ModelParams
from stages.params.train import TrainParams
from stages.text.tokenizer import CharTokenizer
from stages.text.tokens import load_tokens
from stages.training.setup import set_up
from stages.training.state import StateFolder

STEPS, SAVES = 40, 15


def main() -> None:
    """Time a step and a save, and say what part of training saving is."""
    document = YAML(typ="safe").load(Path("params.yaml"))
    compute = ComputeParams.model_validate(document["compute"])
    tokenizer = CharTokenizer.load(Path("data/tokens/tokenizer.json"))
    device = prepare(compute)
    train, val = (part.to(device) for part in load_tokens(Path("data/tokens"), tokenizer))
    params = TrainParams.model_validate(document["train"])
    _, trainer = set_up(ModelParams.model_validate(document["model"]), params, compute, len(tokenizer), train, val)
    if not trainer:
        return
    steps, saves = [], []
    for _ in range(STEPS):
        start = time.perf_counter()
        trainer.take_step()
        steps.append(time.perf_counter() - start)
    with TemporaryDirectory(dir=".") as folder:
        state = StateFolder({}, Path(folder))
        state.folder.mkdir(parents=True)
        for _ in range(SAVES):
            start = time.perf_counter()
            state.save(trainer)
            saves.append(time.perf_counter() - start)
    step, save = statistics.median(steps), statistics.median(saves)
    share = save / (params.checkpoint_every + save)
    print(f"a step {1e3 * step:.1f} ms, a save {1e3 * save:.1f} ms every {params.checkpoint_every:g} s: {share:.2%}")


if __name__ == "__main__":
    main()
