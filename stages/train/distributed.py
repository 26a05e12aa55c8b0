"""Train one model in several processes: each computes the gradients of its share of a batch.

torchrun (torch.distributed.run) starts the processes, on one or more machines, restarts them if one dies, and passes
their ranks in environment variables. All processes sample the same windows and each uses its share, so the windows of a
step do not depend on the number of processes. `DistributedDataParallel` averages the gradients.
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
from torch import Tensor, nn
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from stages.core.errors import Interrupted, ParameterError, WorkError
from stages.core.logs import log
from stages.train.params import TrainParams
from stages.train.signals import catch_stop_signals, end_with_parent

MAX_RESTARTS = 3
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class World:
    """All processes that train a model together.

    Attributes:
        rank: index of this process, from 0.
        size: the number of processes.
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls) -> "World":
        """Return the processes that torchrun or another launcher describes; otherwise this process is the only one.

        If their variables are incomplete, they are ignored with a warning: some systems set RANK for purposes of their
        own.
        """
        values = {name: os.environ.get(name, "") for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")}
        rank, size = values["RANK"], values["WORLD_SIZE"]
        if not rank and not size:
            return cls()
        if rank.isdecimal() and size.isdecimal() and int(rank) < int(size):
            world = cls(int(rank), int(size))
            if world.size == 1 or (values["MASTER_ADDR"] and values["MASTER_PORT"].isdecimal()):
                return world
        shown = ", ".join(f"{name}={value}" for name, value in values.items())
        log.warning("training in one process: the variables of a launcher are not complete (%s)", shown)
        return cls()

    @property
    def is_first(self) -> bool:
        """Return whether this process writes the results."""
        return self.rank == 0

    def check_batch(self, params: TrainParams) -> None:
        """Check that the processes can share a batch evenly.

        Raises:
            ParameterError: if they cannot.
        """
        if params.batch_size % self.size and params.grad_accum_steps % self.size:
            raise ParameterError(
                f"train.batch_size is {params.batch_size} and train.grad_accum_steps is {params.grad_accum_steps}: "
                f"{self.size} processes cannot share either evenly; make one of them a multiple of {self.size}"
            )

    @contextmanager
    def connected(self, device: torch.device) -> Iterator[None]:
        """Connect to the other processes; gloo for tensors on the CPU, NCCL for those on a GPU."""
        if self.size == 1:
            yield
            return
        store, rank, size = next(rendezvous("env://"))
        # After a restart, torchrun's store still holds the addresses of the processes that died.
        attempt = PrefixStore(f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=attempt, rank=rank, world_size=size)
        try:
            yield
        finally:
            dist.destroy_process_group()

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return a module that averages the gradients of `model` over the processes."""
        if self.size == 1:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # n-gram counts are equal in all processes
            # Keeps the buckets of gradients, and with them the order of summation, the same after a restart.
            find_unused_parameters=True,
        )

    def wait_for_all(self) -> None:
        """Wait until every process has called this."""
        if self.size > 1:
            dist.barrier()

    def any_process(self, *flags: bool) -> list[bool]:
        """Return, for each flag, whether it is set in any process."""
        if self.size == 1:
            return list(flags)
        return [bool(total) for total in self._sum_numbers(*map(float, flags))]

    def mean_number(self, number: float) -> float:
        """Return the mean of a number over the processes."""
        return number if self.size == 1 else self._sum_numbers(number)[0] / self.size

    def mean_tensor(self, tensor: Tensor) -> Tensor:
        """Return the mean of a tensor over the processes."""
        if self.size == 1:
            return tensor
        total = tensor.clone()
        dist.all_reduce(total)
        return total / self.size

    def divide_work(self, work: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
        """Return `work(items)`, where items is (N, …) and each process computes its share of the N results."""
        if self.size == 1 or len(items) == 1:
            return work(items)
        share_size = -(-len(items) // self.size)
        share = items[self.rank * share_size : (self.rank + 1) * share_size]
        result = torch.zeros(share_size, *items.shape[1:], dtype=items.dtype, device=items.device)
        if len(share):
            result[: len(share)] = work(share)
        results = torch.empty(self.size * share_size, *items.shape[1:], dtype=items.dtype, device=items.device)
        dist.all_gather_single(results, result)
        return results[: len(items)]

    def _sum_numbers(self, *numbers: float) -> list[float]:
        total = torch.tensor(numbers, dtype=torch.float64)  # on the CPU, so that a GPU need not be waited for
        dist.all_reduce(total)
        return total.tolist()


def launch_processes(count: int, module: str, arguments: list[str]) -> None:
    """Run a stage's module in `count` processes on this machine, and wait for them.

    Raises:
        Interrupted: if a signal arrived; it was passed on to the processes, which saved a checkpoint.
        WorkError: if the processes failed more than MAX_RESTARTS times.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "1", "--nproc-per-node", str(count)),
        *("--max-restarts", str(MAX_RESTARTS), "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"),
        *("--local-addr", "127.0.0.1", "-m", module, *arguments),
    ]
    environment = {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"} | os.environ
    with (
        catch_stop_signals() as stop,
        subprocess.Popen(command, env=environment, preexec_fn=end_with_parent) as torchrun,
    ):
        passed_on = False
        while True:
            try:
                exit_code = torchrun.wait(POLL_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if stop.signal and not passed_on:
                    torchrun.send_signal(signal.SIGTERM)
                    passed_on = True
        if stop.signal:
            raise Interrupted(stop.signal)
    if exit_code:
        raise WorkError(f"training in {count} processes failed (torchrun exited with {exit_code}); see the lines above")
