"""The layout of stages/: which folder may import which, and where names may occur."""

import subprocess
import sys
from collections import Counter

import pytest

from tests.import_graph import all_modules, closure, folder_of, imports

# Each may import those before it.
SHARED = ("stages/core", "stages/tokenizers", "stages/models", "stages/losses", "stages/metrics", "stages/generation")
STAGES = tuple(f"stages/{name}" for name in ("download", "tokenize", "train", "evaluate", "sample", "report"))
SAME_ROLE = {"__init__", "__main__", "command", "params", "base", "registry"}
MODULES = [name for name in all_modules() if name.count(".") > 1]
TORCH_FREE = ("download", "tokenize", "report")


def test_every_module_is_in_a_known_folder():
    assert len(MODULES) > 90
    assert {folder_of(module) for module in MODULES if ".tools." not in module} == {*SHARED, *STAGES}


@pytest.mark.parametrize("module", [name for name in MODULES if ".tools." not in name])
def test_a_folder_imports_only_what_it_may(module):
    folder = folder_of(module)
    imported = {folder_of(name) for name in imports(module) if name.count(".") > 1} - {folder}
    allowed = SHARED[: SHARED.index(folder)] if folder in SHARED else SHARED
    assert imported <= set(allowed)


def test_training_imports_no_generation_of_text_but_the_reference_generator():
    modules = closure({"stages.train.command"})
    assert "stages.models.reference_generator" in modules
    assert not [name for name in modules if name.startswith("stages.generation")]


@pytest.mark.parametrize("stage", TORCH_FREE)
def test_stages_without_a_model_do_not_import_torch(stage):
    code = f"import sys, stages.{stage}.command; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_file_name_occurs_twice():
    names = Counter(module.rsplit(".", 1)[1] for module in MODULES)
    assert [name for name, count in names.items() if count > 1 and name not in SAME_ROLE] == []
