"""Puts into a wheel the files that `bus-hf push` sends and that are no modules; all else stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FILES = (
    "app.py",
    "requirements.txt",
    "README.md",
    "LICENSE",
    "CITATION.cff",
    "dataset_card/README.md",
    "metrics/bus_screening/README.md",
    "metrics/bus_screening/bus_screening.py",
    "metrics/bus_screening/requirements.txt",
)


class BuildWithFiles(build_py):
    """Copies FILES to where `bus_hf.hub.project` looks for them; an editable install reads those of the clone."""

    def run(self) -> None:
        """Build the package, then copy."""
        super().run()
        if self.editable_mode:
            return
        for name in FILES:
            target = Path(self.build_lib, "bus_hf", "hub", "files", name)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(name, str(target))


if __name__ == "__main__":
    setup(cmdclass={"build_py": BuildWithFiles})
