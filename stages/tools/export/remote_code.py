"""Export any model to `transformers`, with its code: `trust_remote_code=True` loads it.

`transformers` imports modules of one folder only, so each module that the model needs becomes a file there, and its
imports are changed: `stages.models.gpt` becomes `.folio_models_gpt`.
"""

import ast
import re
from importlib.util import find_spec
from pathlib import Path

from safetensors.torch import save_file

from stages.models.base import LanguageModel
from stages.tools.export.modeling_folio import WEIGHTS, FolioConfig
from stages.tools.new_project import read_template

MODELING = "stages.tools.export.modeling_folio"
NETWORK = "from stages.models.gpt import GPT as Network"
IMPORT = re.compile(r"from (stages\.[\w.]+) import")
CLASSES = {"AutoConfig": "modeling_folio.FolioConfig", "AutoModelForCausalLM": "modeling_folio.FolioForCausalLM"}


def export_with_code(model: LanguageModel, folder: Path) -> None:
    """Write config.json, model.safetensors and the code of the model to `folder`."""
    config = FolioConfig(
        model=model.params.model_dump(),
        vocab_size=model.vocab_size,
        architectures=["FolioForCausalLM"],
        auto_map=CLASSES,
        dtype="float32",
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )
    config.save_pretrained(folder)
    save_file({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, folder / WEIGHTS)
    (folder / "LICENSE").write_text(read_template("LICENSE"), encoding="utf-8")
    for name, code in code_files(type(model)).items():
        (folder / name).write_text(code, encoding="utf-8")


def code_files(network: type[LanguageModel]) -> dict[str, str]:
    """Return the files with the code of a class of models, by their names."""
    modeling = module_source(MODELING).replace(
        NETWORK, f"from {network.__module__} import {network.__name__} as Network"
    )
    sources = {MODELING: modeling}
    missing = imported_modules(modeling)
    while missing:
        module = missing.pop()
        sources[module] = module_source(module)
        missing |= imported_modules(sources[module]) - set(sources)
    return {
        flat_name(module) + ".py": IMPORT.sub(lambda match: f"from .{flat_name(match[1])} import", source)
        for module, source in sources.items()
    }


def flat_name(module: str) -> str:
    """Return the name of a module's file, without `.py`."""
    return "modeling_folio" if module == MODELING else module.replace("stages.", "folio_").replace(".", "_")


def module_source(module: str) -> str:
    """Return the source code of a module."""
    spec = find_spec(module)
    assert spec
    assert spec.origin
    return Path(spec.origin).read_text(encoding="utf-8")


def imported_modules(source: str) -> set[str]:
    """Return the modules of Folio that a module imports, at its top or in a function."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
    return {node.module for node in nodes if node.module and node.module.startswith("stages.")}
