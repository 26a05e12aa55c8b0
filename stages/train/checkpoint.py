"""The state of a training under way, on the disk, so that it can go on to the same bits.

A folder for each fingerprint of everything that decides the bits. In it `step-N.safetensors`, and `latest.json`, which
names that file with its sha256 and is replaced last: the state before stays until the new one is complete. No pickle.
It lies outside DVC's outs, which DVC deletes before a stage runs.
"""

import hashlib
import json
import os
import shutil
import sys
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

from stages.core import files
from stages.core.errors import WorkError
from stages.core.logs import log
from stages.train.sharding import gathered, part_like
from stages.train.trainer import Row, Trainer

FORMAT = 2
LOCK_SECONDS = 1.0


class StateFolder:
    """Where one training keeps its state.

    Args:
        about: everything that decides the bits, by name; its hash names the folder.
        root: the project's root; in queued experiments, which run in a copy, still the real one.
    """

    def __init__(self, about: dict[str, Any], root: Path | None = None) -> None:
        self.about = about | {"format": FORMAT}
        scratch = (root or Path(os.environ.get("DVC_ROOT", "."))) / ".scratch"
        digest = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()
        self.folder = scratch / digest[:16]

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder against other trainers, and remove it when the work in it has succeeded.

        Raises:
            WorkError: where another process holds it, naming that process. A lock ends with the process that held it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        owner = self.folder / "owner"
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            who = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
            raise WorkError(
                f"{who} is training the same model already ({self.folder}); wait for it or end it"
            ) from None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)  # the one before may have removed it while this one waited
            owner.write_text(f"process {os.getpid()}", encoding="utf-8")
            files.write_json(self.folder / "about.json", self.about)
            yield
            shutil.rmtree(self.folder)
        finally:
            lock.release()

    def save(self, trainer: Trainer) -> None:
        """Write the trainer's state; the one before is there until this one is whole.

        Of several processes the first one writes, and where a model is shared out all have to call this.
        """
        if not (trainer.processes.first or trainer.params.shard):
            return
        content = gathered(tensors(trainer), trainer.processes.first)
        if not trainer.processes.first:
            return
        path = self.folder / f"step-{trainer.step}.safetensors"
        files.write_bytes(path, save(content))
        rows = [asdict(row) for row in trainer.rows]
        latest = {"file": path.name, "sha256": files.sha256(path), "step": trainer.step, "rows": rows}
        latest["seconds"] = trainer.seconds
        files.write_json(self.folder / "latest.json", latest)
        for old in self.folder.glob("step-*.safetensors"):
            if old != path:
                old.unlink()

    def restore(self, trainer: Trainer) -> bool:
        """Put the last state into a fresh trainer, and say whether there was one; a damaged one is named and left."""
        try:
            latest = json.loads((self.folder / "latest.json").read_text(encoding="utf-8"))
            path = self.folder / latest["file"]
            if files.sha256(path) != latest["sha256"]:
                raise ValueError(f"the sha256 of {path.name} is not what latest.json says")
            put_back(trainer, load_file(path))
        except FileNotFoundError:
            self._say_what_differs()
            return False
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            log.warning("the state in %s is damaged (%s); training begins anew", self.folder, error)
            return False
        trainer.step, trainer.seconds = latest["step"], latest["seconds"]
        trainer.rows = [Row(**row) for row in latest["rows"]]
        return True

    def _say_what_differs(self) -> None:
        for other in sorted(self.folder.parent.glob("*/about.json")):
            if other.parent == self.folder or not (other.parent / "latest.json").exists():
                continue
            try:
                theirs = json.loads(other.read_text(encoding="utf-8"))
            except ValueError:
                continue
            names = [name for name in self.about if theirs.get(name) != self.about[name]]
            shown = ", ".join(f"{name} ({theirs.get(name)} there, {self.about[name]} here)" for name in names)
            log.info("the state in %s is of another training and was not used: %s", other.parent, shown)


def tensors(trainer: Trainer) -> dict[str, Tensor]:
    """Name every tensor that decides how training goes on."""
    found = {f"weight.{name}": weight.detach() for name, weight in trainer.model.named_parameters()}
    for kind, weights in (("average", trainer.average), ("best", trainer.best)):
        found |= {f"{kind}.{index}": weight for index, weight in enumerate(weights)}
    for number, optimizer in enumerate(trainer.optimizers):
        for index, state in optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{number}.{index}.{key}": value for key, value in state.items()}
    found["batches"] = trainer.batches.generator.get_state()
    found["torch"] = torch.get_rng_state()
    if trainer.batches.tokens.device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state()
    if trainer.losses:
        found["losses"] = torch.stack(trainer.losses)
    return found


@torch.no_grad()
def put_back(trainer: Trainer, saved: dict[str, Tensor]) -> None:
    """Do the reverse of `tensors`.

    Raises:
        KeyError: where something is missing; the trainer may be half restored then.
    """
    device = trainer.batches.tokens.device
    weights = list(trainer.model.parameters())
    for name, weight in trainer.model.named_parameters():
        weight.copy_(part_like(saved[f"weight.{name}"], weight))
    for index, average in enumerate(trainer.average):
        average.copy_(part_like(saved[f"average.{index}"], average))
    best = [saved[f"best.{index}"] for index in range(len(saved)) if f"best.{index}" in saved]
    trainer.best = [part_like(each, weight).to(device) for each, weight in zip(best, weights, strict=False)]
    for number, optimizer in enumerate(trainer.optimizers):
        moved = [weight for group in optimizer.param_groups for weight in group["params"]]
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in saved.items():
            if name.startswith(f"optimizer.{number}."):
                place, key = name.split(".")[2:]
                like = moved[int(place)]
                state.setdefault(int(place), {})[key] = part_like(value, like) if value.shape == like.shape else value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    trainer.batches.generator.set_state(saved["batches"])
    torch.set_rng_state(saved["torch"])
    if "cuda" in saved:
        torch.cuda.set_rng_state(saved["cuda"])
    trainer.losses = [loss.to(device) for loss in saved.get("losses", torch.empty(0))]


def code_version(stage: str) -> str:
    """Give a sum over a stage's file and Folio's modules that it imports: another line of code may give other bits.

    The same whether the stage was started as `folio train` or as `python -m stages.train`. Not what only watches.
    """
    names = {name for name in sys.modules if name.startswith("stages.") and not name.startswith("stages.tracking")}
    imported = {sys.modules[name].__file__ for name in names}
    paths = sorted({path for path in imported | {stage} if path and Path(path).name != "cli.py"})
    return hashlib.sha256(b"\0".join(Path(path).read_bytes() for path in paths)).hexdigest()
