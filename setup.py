"""Everything is in pyproject.toml, but for this: a wheel takes the page's face finder along."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithParts(build_py):
    """Fetches the face finder if it is missing; without npm the wheel goes without, and says so."""

    def run(self) -> None:
        # By its path: the client package imports what a build environment does not have.
        parts = runpy.run_path(str(Path(__file__).parent / "client" / "parts.py"))
        if not parts["present"]():
            try:
                parts["fetch"]()
            except parts["PartsMissing"] as error:
                self.warn(f"built without the page's face finder: {error}")
        super().run()


setup(cmdclass={"build_py": BuildWithParts})
