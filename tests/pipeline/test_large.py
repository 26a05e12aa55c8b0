"""A text that, as a string, does not fit into the memory that the operating system allows the stages."""

import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import make_text
from tests.import_graph import ROOT

LIMIT = 600 << 20
MEGABYTES = int(os.environ.get("FOLIO_LARGE_MEGABYTES", "120"))
pytestmark = [pytest.mark.pipeline, pytest.mark.timeout(300 + MEGABYTES)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the text and a model without counts."""
    place = tmp_path_factory.mktemp("large")
    (place / "data/own").mkdir(parents=True)
    lines = make_text(240_000).splitlines(keepends=True)
    draw = random.Random(1)
    with (place / "data/own/large.txt").open("w") as file:
        for _ in range(MEGABYTES):
            draw.shuffle(lines)
            file.writelines(lines)
        file.write("Ähre – 😀\n")
    document = YAML().load(ROOT / "params.yaml")
    document["download"]["corpus"] = "own"
    document["compute"]["threads"] = 1
    document["model"] |= {"prior": "none", "block_size": 256, "n_layer": 2, "n_head": 4, "n_embd": 128}
    document["train"] |= {"max_steps": 5, "batch_size": 4}
    YAML().dump(document, place / "params.yaml")
    return place


# Runs a command under the limit, and says on its last line how much memory was resident at most. A process of its own,
# with nothing in it: what a child takes over from the one that started it counts as its own, and pytest is large.
WATCH = """
import resource, subprocess, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
code = subprocess.run(sys.argv[2:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
sys.exit(code)
"""


def run(folder: Path, stage: str) -> int:
    """Run a stage that may hold LIMIT bytes of data; return its largest resident memory, in MB."""
    done = subprocess.run(
        [sys.executable, "-c", WATCH, str(LIMIT), sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout.split()[-1])


def test_every_stage_up_to_training_keeps_within_the_limit(folder: Path):
    for stage in ("download", "tokenize"):
        assert run(folder, stage) < 600
    size = (folder / "data/raw/corpus.txt").stat().st_size
    assert size >= MEGABYTES * 0.9e6
    assert (folder / "data/tokens/train.npy").stat().st_size == pytest.approx(0.9 * size, rel=0.001)
    mapped = size // 2**20  # the token file: counted as resident, although the system can drop its pages
    assert run(folder, "train") < 500 + mapped


def test_pieces_of_words_are_learned_and_found_within_the_limit(folder: Path):
    document = YAML().load(folder / "params.yaml")
    document["tokenize"]["kind"] = "bpe"
    YAML().dump(document, folder / "params.yaml")
    kept = folder / "data/tokens"
    try:
        kept.rename(folder / "data/characters")
        assert run(folder, "tokenize") < 600
        characters = (folder / "data/raw/corpus.txt").stat().st_size
        assert (kept / "train.npy").stat().st_size < characters  # two bytes each, and fewer than half as many
    finally:
        shutil.rmtree(kept, ignore_errors=True)
        (folder / "data/characters").rename(kept)


def test_counts_that_do_not_fit_are_refused(folder: Path):
    document = YAML().load(folder / "params.yaml")
    document["model"] |= {"prior": "kneser_ney", "ngram_order": 16}
    document["train"]["max_tokens"] = 0
    YAML().dump(document, folder / "params.yaml")
    command = [sys.executable, "-m", "stages.train"]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "model.prior: none" in done.stderr  # and a smaller order, where this machine has the memory for one
