"""Shared by tests of several stages: small parameters, commands that must succeed, copies of the working tree."""

import re
import shutil
import subprocess
from pathlib import Path

from click.testing import CliRunner, Result
from ruamel.yaml import YAML

from stages.cli import folio
from tests.import_graph import ROOT

SMALL_MODEL: dict[str, object] = {
    "block_size": 32,
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "sliding_window": 8,
    "dropout": 0.0,
    "prior": "kneser_ney",
    "ngram_order": 4,
    "cross_fit_folds": 3,
    "cache_lm": True,
    "context_experts": True,
}
SMALL_TRAIN: dict[str, object] = {
    "lr": 0.02,
    "lr_embedding": 0.02,
    "lr_head": 0.003,
    "weight_decay": 0.0,
    "warmup_steps": 20,
    "window_size": 0,
    "max_tokens": 0,
}
SMALL: dict[str, dict[str, object]] = {
    "compute": {"threads": 1, "precision": "float32"},  # the same on every processor
    "model": SMALL_MODEL,
    "train": SMALL_TRAIN | {"max_steps": 30, "batch_size": 4, "eval_every": 10},
    "runtime": {"log_every": 10},
    "evaluate": {"batch_size": 16, "short_block_size": 8},
    "sample": {"num_samples": 2, "max_new_tokens": 30, "prompt": "the "},
}


def set_params(**sections: dict[str, object]) -> None:
    """Write params.yaml into the working directory: the repository's, with small values and some keys changed."""
    document = YAML().load(ROOT / "params.yaml")
    for changes in (SMALL, sections):
        for section, values in changes.items():
            document[section].update(values)
    YAML().dump(document, Path("params.yaml"))


def run(*words: str, fails: int = 0) -> Result:
    """Run a `folio` command in this process and check its exit code."""
    result = CliRunner().invoke(folio, words)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == fails, result.output
    return result


def copy_work_tree(folder: Path) -> None:
    """Copy tracked and untracked files, except the user's own texts."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    own = re.compile(r"data/own/.*\.txt")
    for name in names:
        if (ROOT / name).is_file() and not own.fullmatch(name):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
