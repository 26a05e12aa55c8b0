"""Compare the pipeline inside and outside the container: `python -m benchmarks.container`, six minutes on two cores.

Runs the pipeline on tinyshakespeare in two clones of HEAD alternately, three times each: with `dvc`, and with
folio:cpu (`docker/build cpu`). Needs FOLIO_MIRROR and a Docker engine; DOCKER is the client.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 3
ROOT = Path(__file__).parent.parent


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Run a command in a folder, and return its seconds."""
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Print both medians and their ratio."""
    mirror = Path(os.environ["FOLIO_MIRROR"]).resolve()
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "FOLIO_MIRROR": str(mirror),
    }
    with tempfile.TemporaryDirectory() as temporary:
        folders = {name: Path(temporary) / name for name in ("outside", "inside")}
        for folder in folders.values():
            subprocess.run(["git", "clone", "-q", ROOT, folder], check=True)
        mounts = ["-v", f"{folders['inside']}:/workspace", "-v", f"{mirror}:/mirror:ro", "-e", "FOLIO_MIRROR=/mirror"]
        user = f"{os.getuid()}:{os.getgid()}"
        commands = {
            "outside": ["dvc", "repro", "-f"],
            "inside": [os.environ.get("DOCKER", "docker"), "run", "--rm", "--user", user, *mounts, "folio:cpu", "-f"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, command in commands.items():
                seconds[name].append(timed(command, folders[name], environment))
                print(f"{name}: {seconds[name][-1]:.1f} s", flush=True)
    outside, inside = (statistics.median(seconds[name]) for name in ("outside", "inside"))
    print(f"medians: outside {outside:.1f} s, inside {inside:.1f} s, ratio {inside / outside:.3f}")


if __name__ == "__main__":
    main()
