"""Which of Folio's own modules a module imports, directly or not, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from stages.models.params import ModelParams

ROOT = Path(__file__).parent.parent
KINDS = get_args(ModelParams.model_fields["kind"].annotation)
TRACKERS = ("tensorboard", "mlflow", "wandb")
# What is imported by the name of a kind, which no import statement shows.
BY_NAME = {
    "stages.models.base": {f"stages.models.{kind}" for kind in KINDS},
    "stages.train.tracking": {f"stages.tools.trackers.{kind}" for kind in TRACKERS},
}


def file_of(module: str) -> Path | None:
    """Give the file of a module of ours, or None."""
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def imports(module: str) -> set[str]:
    """Name the modules of ours that `module` imports itself; importing a module imports the packages above it."""
    path = file_of(module)
    assert path is not None, module
    named = set(BY_NAME.get(module, set()))
    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            named |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    named = {name for name in named if name.split(".")[0] == "stages" and file_of(name)}
    parents = {name.rsplit(".", depth)[0] for name in named for depth in range(1, name.count(".") + 1)}
    return named | parents


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Go through a tree, but for what is there for the type checker alone."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from walk(child)


def closure(modules: set[str]) -> set[str]:
    """Give `modules` and all that they import, directly or not."""
    found: set[str] = set()
    waiting = set(modules)
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= imports(module) - found
    return found


def code_folders(module: str) -> set[str]:
    """Return the folders of Folio's code that a command imports, relative to the root."""
    paths = {path.relative_to(ROOT) for name in closure({module}) if (path := file_of(name)) and path.stat().st_size}
    return {"/".join(path.parts[:2]) for path in paths if len(path.parts) > 2}
