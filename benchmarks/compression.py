"""Compress one text after another with one program: `python -m benchmarks.compression PROGRAM TRAIN VAL`.

Prints the nats per byte of VAL, the seconds, and the peak memory in megabytes. It imports as little as possible,
because its own memory counts. PROGRAM is a key of PROGRAMS or a command with {input} and {output}.
"""

import bz2
import json
import lzma
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from math import log
from pathlib import Path

from stages.core.logs import peak_memory

PPMD_ORDER, PPMD_MEMORY = 6, 256 << 20
OUTPUT = "compressed.zpaq"  # zpaq insists on the ending


def xz_size(content: bytes) -> int:
    """Return the size after xz."""
    return len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))


def bzip2_size(content: bytes) -> int:
    """Return the size after bzip2."""
    return len(bz2.compress(content, 9))


def ppmd_size(content: bytes) -> int:
    """Return the size after PPMd, variant H."""
    import pyppmd

    encoder = pyppmd.Ppmd7Encoder(PPMD_ORDER, PPMD_MEMORY)
    return len(encoder.encode(content) + encoder.flush())


def zpaq_size(content: bytes) -> int:
    """Return the size after zpaq."""
    return command_size("zpaq add {output} {input} -method 5 -threads 1", content)


def command_size(command: str, content: bytes) -> int:
    """Return the size after a command that names its files {input} and {output}."""
    program, *arguments = shlex.split(command)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "text").write_bytes(content)
        words = [word.format(input="text", output=OUTPUT) for word in arguments]
        subprocess.run(
            [str(Path(shutil.which(program) or program).resolve()), *words], cwd=name, check=True, capture_output=True
        )
        return (Path(name) / OUTPUT).stat().st_size


PROGRAMS: dict[str, Callable[[bytes], int]] = {
    "xz": xz_size, "bzip2": bzip2_size, "PPMd": ppmd_size, "zpaq": zpaq_size
}  # fmt: skip


def conditional_nats(compress: Callable[[bytes], int], train: bytes, val: bytes) -> float:
    """Return the nats per byte that a compressor needs for `val` after `train`."""
    if compress is zpaq_size:
        # It sizes its tables by the next power of two: spaces lift both inputs above the same one.
        train = b" " * (2 ** len(train).bit_length() - len(train)) + train
    return (compress(train + val) - compress(train)) * 8 * log(2) / len(val)


def main() -> None:
    """Print the figures as JSON."""
    program, *paths = sys.argv[1:]
    train, val = (Path(path).read_bytes() for path in paths)
    start = time.perf_counter()
    nats = conditional_nats(PROGRAMS.get(program, partial(command_size, program)), train, val)
    seconds = time.perf_counter() - start
    of_programs = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(json.dumps({"nats per byte": nats, "seconds": seconds, "peak MB": max(peak_memory(), of_programs)}))


if __name__ == "__main__":
    main()
