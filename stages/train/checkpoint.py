"""Training checkpoints: what is saved, when, and which runs may resume from it.

Each training run has a folder in .scratch/, named by a fingerprint of everything that determines its bits. The folder
contains one file, `checkpoint`: the sha256 of the rest, and the rest in safetensors. It is replaced as a whole, and all
of it is checked before any of it is used. The folder is outside DVC's outputs, which DVC deletes before a stage runs.

When training has finished, the folder is deleted. Under DVC it stays until the next training, which deletes the
finished states of other runs, and its own once dvc.lock names the model. If DVC was stopped before it recorded the
model, running the stage again then takes seconds.
"""

import hashlib
import json
import os
import platform
import re
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
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from stages.core.errors import Interrupted, WorkError
from stages.core.files import sha256, write_bytes, write_json, write_text
from stages.core.logs import log
from stages.core.project import in_copy, project_root, started_by_dvc
from stages.models.params import ModelParams
from stages.tokenizers.token_files import META, TRAIN, VAL
from stages.train.params import RuntimeParams, TrainParams
from stages.train.trainer import CurvePoint, Trainer

FORMAT = 5
LOCK_SECONDS = 1.0
DIGEST_BYTES = 32
CHECKPOINT, FINISHED = "checkpoint", "finished"
CODE_FOLDERS = ("stages.core.", "stages.tokenizers.", "stages.models.", "stages.losses.", "stages.train.")
# Variables that select other instructions in the libraries that PyTorch computes with. NVIDIA_VISIBLE_DEVICES is none:
# it names another GPU of the same kind whenever a pod is started again.
KERNEL_VARIABLES = re.compile(r"(ONEDNN|DNNL|MKL|OPENBLAS|ATEN|TORCHINDUCTOR|CUBLAS)_\w+|NVIDIA_TF32_OVERRIDE")


class TrainingCheckpoint:
    """The checkpoint of one training run.

    Args:
        fingerprint: everything that determines the result bit for bit, by name.
        runtime: how often to save.
        root: the project folder.
    """

    def __init__(self, fingerprint: dict[str, Any], runtime: RuntimeParams, root: Path | None = None) -> None:
        self.fingerprint = fingerprint | {"format": FORMAT}
        self.runtime = runtime
        scratch = (root or project_root()) / ".scratch"
        digest = hashlib.sha256(json.dumps(self.fingerprint, sort_keys=True).encode()).hexdigest()
        self.folder = scratch / digest[:16]
        self._saved_at = time.monotonic()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the folder against other processes; after success, delete it, or under DVC mark it as finished.

        The lock is released when the process ends. Its file remains, because another process may be waiting for it.
        An experiment of DVC's queue waits for the lock instead of failing. If the other run differs only in later
        stages, its finished checkpoint then replaces the training.

        Raises:
            WorkError: if another process holds the lock; the message names it.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        owner = self.folder.with_suffix(".owner")
        lock = FileLock(self.folder.with_suffix(".lock"))
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            name = _read_owner(owner)
            if not in_copy():
                raise WorkError(
                    f"{name} is already training this model ({self.folder}); wait for it or stop it"
                ) from None
            log.info("%s is already training this model; waiting for it", name)
            lock.acquire()
        try:
            self._delete_finished_runs()
            self.folder.mkdir(parents=True, exist_ok=True)
            owner.write_text(f"process {os.getpid()}", encoding="utf-8")
            write_json(self.folder / "fingerprint.json", self.fingerprint)
            yield
            if not (self.folder / FINISHED).exists():
                shutil.rmtree(self.folder, ignore_errors=True)
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    def save_last_step(self, trainer: Trainer) -> None:
        """Under DVC, save the state after the last step."""
        if started_by_dvc():
            self.save(trainer)

    def mark_finished(self, model_folder: Path) -> None:
        """Under DVC, keep the state until DVC has recorded the model."""
        if started_by_dvc():
            write_text(self.folder / FINISHED, dvc_digest(model_folder))

    def _delete_finished_runs(self) -> None:
        """Delete the states of finished runs, except that of this run if DVC has not recorded it."""
        lock_file = Path("dvc.lock")
        recorded = lock_file.read_text(encoding="utf-8") if lock_file.exists() else ""
        for path in self.folder.parent.glob(f"*/{FINISHED}"):
            if path.parent != self.folder or path.read_text(encoding="utf-8") in recorded:
                shutil.rmtree(path.parent, ignore_errors=True)

    def save_if_due(self, trainer: Trainer, stop_signal: signal.Signals | None) -> None:
        """Save a checkpoint if the interval has passed or a signal has arrived.

        All processes that train together decide at the same step.

        Raises:
            Interrupted: after saving, if a signal has arrived in any process.
        """
        every_steps, every_seconds = self.runtime.checkpoint_every_steps, self.runtime.checkpoint_every_seconds
        elapsed = time.monotonic() - self._saved_at
        is_due = trainer.step % every_steps == 0 if every_steps else elapsed >= every_seconds
        is_due, stops = trainer.world.any_process(is_due, stop_signal is not None)
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
        if not trainer.world.is_first:
            return
        state = {name: tensor.cpu().contiguous() for name, tensor in state_tensors(trainer).items()}
        progress = {
            "step": trainer.step,
            "seconds": trainer.seconds,
            "curve": [asdict(point) for point in trainer.curve],
        }
        state["progress"] = torch.tensor(list(json.dumps(progress).encode()), dtype=torch.uint8)
        content = save(state)
        write_bytes(self.folder / CHECKPOINT, hashlib.sha256(content).digest() + content)

    def restore(self, trainer: Trainer) -> bool:
        """Restore a new trainer from the last checkpoint, and return whether there was one.

        A damaged checkpoint is reported and ignored; the trainer is then unchanged.
        """
        try:
            whole = (self.folder / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            self._log_other_checkpoints()
            return False
        try:
            digest, content = whole[:DIGEST_BYTES], whole[DIGEST_BYTES:]
            if hashlib.sha256(content).digest() != digest:
                raise ValueError("its content differs from its sha256")
            state = load(content)
            progress: dict[str, Any] = json.loads(bytes(state.pop("progress").tolist()))
            step, seconds = int(progress["step"]), float(progress["seconds"])
            curve = TypeAdapter(list[CurvePoint]).validate_python(progress["curve"])
            check_state(trainer, state, step, curve)
        except (ValueError, KeyError, TypeError, SafetensorError, ValidationError) as error:
            reason = " ".join(str(error).split())
            log.warning("the checkpoint in %s is damaged (%s); training starts from the beginning", self.folder, reason)
            return False
        restore_tensors(trainer, state)
        trainer.step, trainer.seconds, trainer.curve = step, seconds, curve
        return True

    def _log_other_checkpoints(self) -> None:
        """Log which parts of the fingerprint differ in the checkpoints of other runs."""
        for path in sorted(self.folder.parent.glob("*/fingerprint.json")):
            if path.parent == self.folder or not (path.parent / CHECKPOINT).exists():
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


def _read_owner(path: Path) -> str:
    """Return the process that holds the lock."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:  # it has just begun or ended
        return "another process"


def training_fingerprint(
    model_params: ModelParams, train_params: TrainParams, tokens_folder: Path, environment: dict[str, Any]
) -> dict[str, Any]:
    """Return everything that determines the result of a training run, bit for bit, by name."""
    fingerprint: dict[str, Any] = {f"model.{name}": value for name, value in model_params.model_dump().items()}
    fingerprint |= {f"train.{name}": value for name, value in train_params.model_dump().items()}
    if train_params.init_from:
        fingerprint["init_from"] = sha256(Path(train_params.init_from) / "model.safetensors")
    fingerprint |= {f"tokens/{name}": sha256(tokens_folder / name) for name in (TRAIN, VAL, META)}
    return fingerprint | environment | kernel_environment() | {"code": code_fingerprint()}


def kernel_environment() -> dict[str, Any]:
    """Return what selects the instructions that PyTorch computes with: the processor, libraries and variables."""
    variables = {name: value for name, value in sorted(os.environ.items()) if KERNEL_VARIABLES.fullmatch(name)}
    return {"processor": processor(), "libraries": short_digest(torch.__config__.show()), **variables}


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the model of the first processor and a digest of its instruction sets, or what the system calls it."""
    try:
        first = cpuinfo.read_text(encoding="utf-8").partition("\n\n")[0]
    except OSError:
        return platform.processor()
    values = dict(re.findall(r"^(\w[\w ]*?)\s*: (.*)$", first, re.MULTILINE))
    name = values.get("model name") or values.get("CPU part", "")  # the second one on ARM
    return f"{name} ({short_digest(values.get('flags') or values.get('Features', ''))})"


def short_digest(text: str) -> str:
    """Return the first 12 hexadecimal digits of the sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def dvc_digest(folder: Path) -> str:
    """Return the digest by which dvc.lock names the content of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = [
        {"md5": hashlib.md5(path.read_bytes()).hexdigest(), "relpath": path.relative_to(folder).as_posix()}
        for path in files
    ]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode()).hexdigest() + ".dir"


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
    for kind, weights in (("ema", trainer.ema), ("best", trainer.best_weights)):
        state |= {f"{kind}.{index}": weight.detach() for index, weight in enumerate(weights)}
    for number, optimizer in enumerate(trainer.optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{number}.{index}.{key}": value for key, value in values.items()}
    state["sampler"] = trainer.sampler.generator.get_state()
    state["torch"] = torch.get_rng_state()
    device = trainer.sampler.tokens.device
    if device.type != "cpu":
        state["device"] = torch.get_device_module(device).get_rng_state()
    if trainer.losses:
        state["losses"] = torch.stack(trainer.losses)
    return state


def check_state(trainer: Trainer, state: dict[str, Tensor], step: int, curve: list[CurvePoint]) -> None:
    """Check that a state has exactly the tensors that the trainer has at `step`, with the same types and shapes.

    Args:
        trainer: the trainer, before its first step.
        state: the tensors of the checkpoint, by name.
        step: step of the checkpoint.
        curve: points up to this step.

    Raises:
        ValueError: if it does not; the message names the first part that does not fit.
    """
    last_point = curve[-1].step if curve else 0
    expected = state_tensors(trainer)
    weights = [weight.detach() for weight in trainer.model.parameters()]
    if any(name.startswith("best.") for name in state):
        expected |= {f"best.{index}": weight for index, weight in enumerate(weights)}
    if step > last_point:
        expected["losses"] = torch.zeros(step - last_point)
    for number, optimizer in enumerate(trainer.optimizers):
        parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        keys = {name.split(".")[3] for name in state if name.startswith(f"optimizer.{number}.")}
        for index, weight in enumerate(parameters):
            expected |= {
                f"optimizer.{number}.{index}.{key}": torch.zeros(()) if key == "step" else weight for key in keys
            }
        if not keys:
            raise ValueError(f"optimizer {number} has no state")
    for name in sorted(expected.keys() | state.keys()):
        found, wanted = (describe_tensor(tensors.get(name)) for tensors in (state, expected))
        if found != wanted:
            raise ValueError(f"{name} is {found} instead of {wanted}")


def describe_tensor(tensor: Tensor | None) -> str:
    """Return the type and shape of a tensor in words."""
    return "missing" if tensor is None else f"{tensor.dtype} of shape {tuple(tensor.shape)}".removeprefix("torch.")


@torch.no_grad()
def restore_tensors(trainer: Trainer, state: dict[str, Tensor]) -> None:
    """Restore a new trainer from what `state_tensors` returned; `check_state` says whether it fits."""
    device = trainer.sampler.tokens.device
    for name, weight in trainer.model.named_parameters():
        weight.copy_(state[f"weight.{name}"])
    for index, average in enumerate(trainer.ema):
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
    if "device" in state:
        torch.get_device_module(device).set_rng_state(state["device"])
    trainer.losses = [loss.to(device) for loss in state.get("losses", torch.empty(0))]
