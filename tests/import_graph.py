"""Which of Folio's own modules a module imports, directly or not, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

from stages.models.registry import MODELS

ROOT = Path(__file__).parent.parent
KINDS = tuple(MODELS)


def file_of(module: str) -> Path | None:
    """Return the file of a module of Folio, or None."""
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def all_modules() -> list[str]:
    """Return the names of all modules of Folio that are not empty."""
    paths = [path.relative_to(ROOT) for path in (ROOT / "stages").rglob("*.py") if path.stat().st_size]
    return [".".join(path.with_suffix("").parts) for path in sorted(paths)]


def imports(module: str) -> set[str]:
    """Return the modules of Folio that `module` imports itself.

    A module that imports the registry of models may import any of them by name.
    """
    path = file_of(module)
    assert path is not None, module
    names: set[str] = set()
    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    if "stages.models.registry.MODELS" in names and module == "stages.models.base":
        names |= {value.split(":")[0] for value in MODELS.values()}
    return {name for name in names if name.split(".")[0] == "stages" and file_of(name)}


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree, except what is there for the type checker only."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield from walk(child)


def closure(modules: set[str]) -> set[str]:
    """Return `modules` and everything that they import, directly or not."""
    found: set[str] = set()
    waiting = set(modules)
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= imports(module) - found
    return found


def folder_of(module: str) -> str:
    """Return the folder of a module below `stages`; for a tool, that of the tool."""
    parts = module.split(".")
    return "/".join(parts[:3] if parts[1:2] == ["tools"] else parts[:2])


def code_folders(module: str) -> set[str]:
    """Return the folders of Folio's code that a command imports, relative to the root."""
    modules = {name for name in closure({module}) if (path := file_of(name)) and path.stat().st_size}
    return {folder_of(name) for name in modules if name.count(".") > 1}
