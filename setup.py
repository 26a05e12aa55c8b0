"""Put the files that `folio new` copies into the wheel. Everything else about the package is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithTemplate(build_py):
    """Copies the files of a project from here to stages/template."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        if self.editable_mode:  # `folio new` finds them beside the package
            return
        for name in Path("stages/tools/template_files.txt").read_text(encoding="utf-8").split():
            target = Path(self.build_lib, "stages/template", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(name, target)


setup(cmdclass={"build_py": BuildWithTemplate})
