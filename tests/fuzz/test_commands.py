"""Whatever damages a file: the command that reads it succeeds, or says so in one line, and never with a traceback.

FOLIO_FUZZ is the number of damaged files for each command and file; 500 take an hour.
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from stages.cli import folio
from tests.conftest import make_text
from tests.fuzz.damage import damaged_bytes, damaged_document
from tests.report.conftest import make_project
from tests.small_project import run

EXAMPLES = int(os.environ.get("FOLIO_FUZZ", "3"))
SLOW = {"report"}  # draws for a second if it is not stopped by an error
MAX_SECONDS = 60
REPORT_FILES = [
    "data/raw/corpus.json", "reports/metrics.json", "reports/train.tsv", "reports/loss_by_position.tsv",
    "reports/calibration.tsv", "reports/predictions.safetensors", "reports/samples.txt", "models/config.json",
    "models/tokenizer.json", "data/tokens/tokens.json", "data/tokens/train.npy", "params.yaml",
]  # fmt: skip
READ: dict[str, list[str]] = {
    "tokenize": ["data/raw/corpus.txt", "data/raw/documents.npy", "params.yaml"],
    "train --dry-run": [
        "data/tokens/tokens.json", "data/tokens/tokenizer.json", "data/tokens/train.npy", "data/tokens/val.npy",
        "params.yaml",
    ],
    "evaluate": [
        "models/config.json", "models/tokenizer.json", "models/model.safetensors", "models/manifest.json",
        "data/tokens/val.npy", "params.yaml",
    ],
    "sample": ["models/config.json", "models/tokenizer.json", "models/model.safetensors", "params.yaml"],
    "export --to huggingface --output exported": ["models/config.json"],
    "report": REPORT_FILES,
}  # fmt: skip
CASES = [(command, path) for command, paths in READ.items() for path in paths]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        text = make_text(600)
        make_project(
            text, model={"n_layer": 1, "prior": "none", "sliding_window": 0}, train={"max_steps": 3, "eval_every": 3},
            evaluate={"prediction_tokens": 60}, sample={"max_new_tokens": 20, "num_samples": 1},
        )  # fmt: skip
        from stages.core.documents import write_documents

        write_documents(Path("data/raw/corpus.txt"), [(0, 0, 1.0), (100, 0, 1.0), (len(text) - 200, 0, 1.0)])
        yield folder


def dump_yaml(document: Any) -> str:
    stream = io.StringIO()
    YAML(typ="safe").dump(document, stream)
    return stream.getvalue()


def damaged(path: Path, content: bytes) -> st.SearchStrategy[bytes]:
    """Return a strategy of damaged contents of a file."""
    strategies = [damaged_bytes(content)]
    if path.suffix == ".json":
        strategies += 3 * [damaged_document(json.loads(content))]
    if path.suffix == ".yaml":
        strategies += 3 * [damaged_document(YAML(typ="safe").load(content), dump_yaml)]
    return st.one_of(*strategies)


def sign(folder: Path) -> None:
    """Write the manifest of a model anew, so that damaged content has the right digest."""
    names = ("model.safetensors", "config.json", "tokenizer.json")
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / "manifest.json").write_text(json.dumps({"sha256": digests}))


def check(command: str) -> None:
    """Run a command; it must succeed or report an error in one line."""
    start = time.monotonic()
    result = CliRunner().invoke(folio, command.split())
    exception = result.exception
    if exception is not None and not isinstance(exception, SystemExit):
        raise AssertionError(f"{command} ended with a traceback") from exception
    assert result.exit_code in (0, 1, 2)
    errors = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == (result.exit_code != 0), result.stderr
    assert len(result.stderr) < 20_000
    assert "\x1b" not in result.stderr
    assert time.monotonic() - start < MAX_SECONDS


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("command", "name"), CASES, ids=lambda value: value.replace("/", "-").replace(" ", "_"))
def test_a_damaged_file_is_an_error_of_one_line(project, tmp_path, monkeypatch, command, name):
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    run(*command.split())  # with everything whole, it works
    path = Path(name)
    content = path.read_bytes()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES < 50,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(path, content))
    def attack(content: bytes) -> None:
        path.write_bytes(content)
        if path.parent.name == "models" and path.name != "manifest.json":
            sign(path.parent)
        check(command)

    attack()


TEXT = (make_text(60) + "\n").encode()
LINES = make_text(60).splitlines()
ROWS = "".join(json.dumps({"text": line, "id": number}) + "\n" for number, line in enumerate(LINES)).encode()


def parquet() -> bytes:
    pytest.importorskip("pyarrow")
    from pyarrow import table  # type: ignore[import-untyped]
    from pyarrow.parquet import write_table  # type: ignore[import-untyped]

    stream = io.BytesIO()
    write_table(table({"text": LINES, "id": list(range(len(LINES)))}), stream)
    return stream.getvalue()


OWN: dict[str, Callable[[], bytes]] = {
    "a.txt": lambda: TEXT,
    "a.txt.gz": lambda: gzip.compress(TEXT, mtime=0),
    "a.txt.bz2": lambda: bz2.compress(TEXT),
    "a.txt.xz": lambda: lzma.compress(TEXT),
    "a.jsonl": lambda: ROWS,
    "a.jsonl.xz": lambda: lzma.compress(ROWS),
    "a.parquet": parquet,
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", OWN)
def test_damaged_own_texts_are_an_error_of_one_line(project, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    shutil.copy(project / "params.yaml", tmp_path)
    params = YAML()
    document = params.load(Path("params.yaml"))
    document["download"]["corpus"] = "own"
    params.dump(document, Path("params.yaml"))
    path = Path("data/own") / name
    path.parent.mkdir(parents=True)

    @settings(
        max_examples=10 * EXAMPLES,
        deadline=None,
        derandomize=EXAMPLES < 50,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged_bytes(OWN[name]()))
    def attack(content: bytes) -> None:
        path.write_bytes(content)
        check("download")

    attack()
