"""Training checkpoints: what is saved, when, and which runs may resume from it.

Each training run has a folder in .scratch/, named by a fingerprint of everything that determines its bits. The folder
contains `step-N.safetensors` and `latest.json`, which names that file and its sha256 and is replaced last, so the
previous checkpoint remains until the new one is complete. The folder is outside DVC's outputs, which DVC deletes before
a stage runs.
"""

import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from stages.core.errors import Interrupted, WorkError
from stages.core.files import sha256, write_bytes, write_json
from stages.core.logs import log
from stages.models.params import ModelParams
from stages.tokenizers.token_files import META, TRAIN, VAL
from stages.train.params import RuntimeParams, TrainParams
from stages.train.trainer import CurvePoint, Trainer

FORMAT = 4
LOCK_SECONDS = 1.0
CODE_FOLDERS = ("stages.core.", "stages.tokenizers.", "stages.models.", "stages.losses.", "stages.train.")


class TrainingCheckpoint:
    """The checkpoint of one training run.

    Args:
        fingerprint: everything that determines the result bit for bit, by name.
        runtime: how often to save.
        root: the project folder; queued experiments run in a copy, but use the real one (DVC_ROOT).
    """

    def __init__(self, fingerprint: dict[str, Any], runtime: RuntimeParams, root: Path | None = None) -> None:
        self.fingerprint = fingerprint | {"format": FORMAT}
        self.runtime = runtime
        scratch = (root or Path(os.environ.get("DVC_ROOT", "."))) / ".scratch"
        digest = hashlib.sha256(json.dumps(self.fingerprint, sort_keys=True).encode()).hexdigest()
        self.folder = scratch / digest[:16]
        self._saved_at = time.monotonic()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other processes, and delete it on success.

        The lock is released when the process ends.

        Raises:
            WorkError: if another process holds the lock; the message names it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        owner = self.folder / "owner"
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            name = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
            raise WorkError(f"{name} is already training this model ({self.folder}); wait for it or stop it") from None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # the previous owner may have deleted it meanwhile
            owner.write_text(f"process {os.getpid()}", encoding="utf-8")
            write_json(self.folder / "fingerprint.json", self.fingerprint)
            yield
            shutil.rmtree(self.folder)
        finally:
            lock.release()

    def save_if_due(self, trainer: Trainer, stop_signal: signal.Signals | None) -> None:
        """Save a checkpoint if the interval has passed or a signal has arrived.

        All processes that train together decide at the same step.

        Raises:
            Interrupted: after saving, if a signal has arrived in any process.
        """
        every_steps, every_seconds = self.runtime.checkpoint_every_steps, self.runtime.checkpoint_every_seconds
        elapsed = time.monotonic() - self._saved_at
        is_due = trainer.step % every_steps == 0 if every_steps else elapsed >= every_seconds
        is_due, stops = trainer.group.any_process(is_due, stop_signal is not None)
        if is_due or stops:
            self.save(trainer)
            self._saved_at = time.monotonic()
        if stops:
            raise Interrupted(stop_signal or signal.SIGTERM)

    def save(self, trainer: Trainer) -> None:
        """Write a checkpoint, in the first process only; the previous one remains until this one is complete.

        Raises:
            WorkError: if the loss has become infinite or NaN.
        """
        trainer.check_finite()
        if not trainer.group.is_first:
            return
        path = self.folder / f"step-{trainer.step}.safetensors"
        state = {name: tensor.cpu().contiguous() for name, tensor in state_tensors(trainer).items()}
        write_bytes(path, save(state))
        latest = {
            "file": path.name,
            "sha256": sha256(path),
            "tensors": sorted(state),
            "step": trainer.step,
            "curve": [asdict(point) for point in trainer.curve],
            "seconds": trainer.seconds,
        }
        write_json(self.folder / "latest.json", latest)
        for old in self.folder.glob("step-*.safetensors"):
            if old != path:
                old.unlink()

    def restore(self, trainer: Trainer) -> bool:
        """Restore a new trainer from the last checkpoint, and return whether there was one.

        A damaged checkpoint is reported and ignored.
        """
        try:
            latest = json.loads((self.folder / "latest.json").read_text(encoding="utf-8"))
            path = self.folder / latest["file"]
            if not path.exists():
                raise ValueError(f"{path.name} is missing")
            if sha256(path) != latest["sha256"]:
                raise ValueError(f"the sha256 of {path.name} differs from latest.json")
            state = load_file(path)
            if sorted(state) != latest["tensors"]:
                raise ValueError(f"{path.name} and latest.json name different tensors")
            step, seconds = int(latest["step"]), float(latest["seconds"])
            curve = [CurvePoint(**point) for point in latest["curve"]]
            restore_tensors(trainer, state)
        except FileNotFoundError:
            self._log_other_checkpoints()
            return False
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            log.warning("the checkpoint in %s is damaged (%r); training starts from the beginning", self.folder, error)
            return False
        trainer.step, trainer.seconds, trainer.curve = step, seconds, curve
        return True

    def _log_other_checkpoints(self) -> None:
        """Log which parts of the fingerprint differ in the checkpoints of other runs."""
        for path in sorted(self.folder.parent.glob("*/fingerprint.json")):
            if path.parent == self.folder or not (path.parent / "latest.json").exists():
                continue
            try:
                other = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                continue
            names = [name for name in self.fingerprint if other.get(name) != self.fingerprint[name]]
            differences = ", ".join(
                f"{name} ({other.get(name)} there, {self.fingerprint[name]} here)" for name in names
            )
            log.info("the checkpoint in %s belongs to another run: %s", path.parent, differences)


def training_fingerprint(
    model: ModelParams, params: TrainParams, tokens_folder: Path, environment: dict[str, Any]
) -> dict[str, Any]:
    """Return everything that determines the result of a training run, bit for bit, by name."""
    fingerprint: dict[str, Any] = {f"model.{name}": value for name, value in model.model_dump().items()}
    fingerprint |= {f"train.{name}": value for name, value in params.model_dump().items()}
    if params.init_from:
        fingerprint["init_from"] = sha256(Path(params.init_from) / "model.safetensors")
    fingerprint |= {f"tokens/{name}": sha256(tokens_folder / name) for name in (TRAIN, VAL, META)}
    return fingerprint | environment | {"code": code_fingerprint()}


def code_fingerprint() -> str:
    """Return a digest of the source files that are imported, because a change of the code may change the bits.

    It does not depend on whether the stage was started as `folio train` or as `python -m stages.train`.
    """
    names = sorted(name for name in sys.modules if name.startswith(CODE_FOLDERS) and not name.endswith("__main__"))
    paths = [Path(path) for name in names if (path := sys.modules[name].__file__)]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def state_tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Return every tensor that determines how training continues, by name."""
    state = {f"weight.{name}": weight.detach() for name, weight in trainer.model.named_parameters()}
    averages = trainer.ema.parameters() if trainer.ema else ()
    for kind, weights in (("ema", averages), ("best", trainer.best_weights)):
        state |= {f"{kind}.{index}": weight.detach() for index, weight in enumerate(weights)}
    for number, optimizer in enumerate(trainer.optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{number}.{index}.{key}": value for key, value in values.items()}
    state["sampler"] = trainer.sampler.generator.get_state()
    state["torch"] = torch.get_rng_state()
    if trainer.sampler.tokens.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state()
    if trainer.losses:
        state["losses"] = torch.stack(trainer.losses)
    return state


@torch.no_grad()
def restore_tensors(trainer: Trainer, state: dict[str, Tensor]) -> None:
    """Restore a trainer from what `state_tensors` returned.

    Raises:
        KeyError: if a tensor is missing; the trainer is then unchanged.
    """
    required = [f"weight.{name}" for name, _ in trainer.model.named_parameters()] + ["sampler", "torch"]
    required += [f"ema.{index}" for index, _ in enumerate(trainer.ema.parameters() if trainer.ema else ())]
    if missing := [name for name in required if name not in state]:
        raise KeyError(f"no {missing[0]}")
    device = trainer.sampler.tokens.device
    for name, weight in trainer.model.named_parameters():
        weight.copy_(state[f"weight.{name}"])
    for index, average in enumerate(trainer.ema.parameters() if trainer.ema else ()):
        average.copy_(state[f"ema.{index}"])
    trainer.best_weights = [
        state[f"best.{index}"].to(device) for index in range(len(state)) if f"best.{index}" in state
    ]
    for number, optimizer in enumerate(trainer.optimizers):
        optimizer_state: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith(f"optimizer.{number}."):
                index_text, key = name.split(".")[2:]
                optimizer_state.setdefault(int(index_text), {})[key] = value
        param_groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": optimizer_state, "param_groups": param_groups})
    trainer.sampler.generator.set_state(state["sampler"])
    torch.set_rng_state(state["torch"])
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
    trainer.losses = [loss.to(device) for loss in state.get("losses", torch.empty(0))]
