"""Several processes that train one model together: each learns from its part of a batch, and gradients are averaged.

`torchrun` (torch.distributed.run) starts them, here or on many machines, and starts them again where one has died; what
it tells each stands in the environment. Every process draws the same windows and takes its own, so that those of a step
are the same whatever the number of processes; weights, optimizers and draws stay equal without being sent.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from stages.core.errors import Interrupted, ParameterError, WorkError
from stages.train.params import TrainParams
from stages.train.signals import stopping

RESTARTS = 3
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Processes:
    """This process's number, from 0, and how many there are."""

    rank: int = 0
    count: int = 1

    @classmethod
    def of_environment(cls) -> "Processes":
        """Read what torchrun has told this process; without torchrun it is the only one."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Say whether this is the one that writes."""
        return self.rank == 0

    def check(self, params: TrainParams) -> None:
        """Refuse a batch or a model that cannot be shared out.

        Raises:
            ParameterError: naming the batch and the processes.
        """
        if params.shard and self.count == 1:
            raise ParameterError("train.shard is on, and there is one process: set train.processes to 2 or more")
        if params.batch_size % self.count and params.accumulate % self.count:
            raise ParameterError(
                f"train.batch_size is {params.batch_size} and train.accumulate {params.accumulate}: {self.count} "
                f"processes cannot share either evenly; make one of them a multiple of {self.count}"
            )

    @contextmanager
    def connected(self, device: torch.device) -> Iterator[None]:
        """Join the others for as long as the work takes: gloo on CPUs, NCCL on GPUs."""
        if self.count == 1:
            yield
            return
        store, rank, count = next(rendezvous("env://"))
        # torchrun keeps its store when it starts processes again, with the addresses of those that have died in it.
        attempt = PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=attempt, rank=rank, world_size=count)
        try:
            yield
        finally:
            dist.destroy_process_group()

    def any_of_them(self, *mine: bool) -> list[bool]:
        """Say of each question whether any process says yes."""
        if self.count == 1:
            return list(mine)
        return [bool(wish) for wish in self._added(*map(float, mine))]

    def mean(self, mine: float) -> float:
        """Give the mean of a number over the processes."""
        return mine if self.count == 1 else self._added(mine)[0] / self.count

    def _added(self, *mine: float) -> list[float]:
        numbers = torch.tensor(mine, dtype=torch.float64)
        if dist.get_backend() == "nccl":
            numbers = numbers.cuda()
        dist.all_reduce(numbers)
        return numbers.tolist()

    def average(self, tensors: list[Tensor]) -> None:
        """Replace every tensor by its mean over the processes, all in one message."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].view_as(tensor))
            start += tensor.numel()

    def share_out(self, work: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
        """Do `work` on each of `items`, (N, …), every process on its part of them, and give all of them all results."""
        if self.count == 1 or len(items) == 1:
            return work(items)
        size = -(-len(items) // self.count)
        mine = items[self.rank * size : (self.rank + 1) * size]
        done = torch.zeros(size, *items.shape[1:], dtype=items.dtype, device=items.device)
        if len(mine):
            done[: len(mine)] = work(mine)
        results = torch.empty(self.count * size, *items.shape[1:], dtype=items.dtype, device=items.device)
        dist.all_gather_single(results, done)
        return results[: len(items)]


def launch(count: int, module: str, arguments: list[str]) -> None:
    """Run a stage's module in `count` processes on this machine, and wait for them.

    Raises:
        Interrupted: where a signal came; it was passed on, and the state is saved.
        WorkError: where they failed more than RESTARTS times.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(count)),
        *("--max-restarts", str(RESTARTS), "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"),
        *("--local-addr", "127.0.0.1", "-m", module, *arguments),
    ]
    environment = {"GLOO_SOCKET_IFNAME": "lo"} | os.environ
    with stopping() as stop, subprocess.Popen(command, env=environment) as torchrun:
        passed_on = False
        while True:
            try:
                code = torchrun.wait(POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if stop.signal and not passed_on:
                    torchrun.send_signal(signal.SIGTERM)
                    passed_on = True
        if stop.signal:
            raise Interrupted(stop.signal)
    if code:
        raise WorkError(f"{count} processes did not end well (torchrun's exit code is {code}); the lines above say why")
