"""Imports go down the table of rooms, serving stays light, and no file grows past 400 lines."""

import ast
import fnmatch
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "bus_hf"

# From top to bottom: a room imports from rooms below its line alone. Rooms of one line do not know each other.
ROOMS = (
    ("app.py", "train_accelerate.py"),
    ("cli",),
    ("space",),
    ("clinic",),
    # `import bus_hf` itself: the detector, on demand.
    ("",),
    ("hub",),
    ("build",),
    ("training",),
    ("reporting",),
    ("inference",),
    ("ensemble",),
    ("models",),
    ("data",),
    ("evaluation",),
    ("views",),
    ("config",),
    ("labels", "probabilities", "tensors"),
    ("validation", "files", "text", "filenames", "hub_errors"),
    ("errors",),
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
HEAVY = (
    "torch",
    "timm",
    "gradio",
    "datasets",
    "albumentations",
    "matplotlib",
    "sklearn",
    "scipy",
    "pandas",
    "transformers",
)
SERVING = (
    "inference.detector",
    "inference.runtime",
    "inference.two_stage",
    "views",
    "data.images",
    "ensemble.folder",
    "ensemble.download",
)


def sources():
    """Every source file with its name inside the package: "data.images", "" for bus_hf itself, "app.py"."""
    result = {
        file: ".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        for file in sorted(PACKAGE.rglob("*.py"))
    }
    return result | {ROOT / name: name for name in ("app.py", "train_accelerate.py") if (ROOT / name).is_file()}


def imports(tree, name, is_package):
    """Names inside bus_hf that a parsed module imports, as (name, line); "" is bus_hf itself."""
    home = ["bus_hf", *name.split(".")] if name else ["bus_hf"]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                up = node.level - (1 if is_package else 0)
                base = ".".join(home[: len(home) - up] + ([node.module] if node.module else []))
            else:
                base = node.module
            targets = [f"{base}.{alias.name}" if is_module(f"{base}.{alias.name}") else base for alias in node.names]
        else:
            continue
        for target in targets:
            if target == "bus_hf" or target.startswith("bus_hf."):
                yield target.removeprefix("bus_hf").lstrip("."), node.lineno


def is_module(dotted):
    path = ROOT.joinpath(*dotted.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def room(name):
    return name if name in LEVEL else name.split(".")[0]


def allowed(name, target):
    return room(target) == room(name) or LEVEL[room(target)] > LEVEL[room(name)]


def violations(name, code, is_package=False):
    return [
        f"line {line}: {name or 'bus_hf'} imports {target or 'bus_hf'}"
        for target, line in imports(ast.parse(code), name, is_package)
        if not allowed(name, target)
    ]


@pytest.mark.parametrize(("file", "name"), sources().items(), ids=lambda value: value if isinstance(value, str) else "")
def test_imports_go_down_the_table(file, name):
    assert room(name) in LEVEL, f"{file.name} is a new room: add it to the table of this test and of the design"
    assert violations(name, file.read_text(encoding="utf-8"), file.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("views", "from bus_hf.inference.detector import Prediction"),
        ("views", "def late():\n    import bus_hf.models"),
        ("data.images", "from bus_hf import models"),
        ("data.images", "from ..inference.prediction import Prediction"),
        ("inference.detector", "from bus_hf.training.run import run"),
        ("inference.detector", "from bus_hf.hub import upload"),
        ("inference.torch_runtime", "from bus_hf import BreastCancerDetector"),
        ("errors", "import bus_hf.views"),
        ("labels", "from bus_hf.probabilities import class_probabilities"),
        ("evaluation.report", "from bus_hf.reporting import tables"),
        ("reporting.cards", "from bus_hf.build.assemble import assemble"),
    ],
)
def test_a_violation_is_seen(name, code):
    assert len(violations(name, code)) == 1


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("inference.detector", "from bus_hf.data import images"),
        ("inference.detector", "from bus_hf.data.images import read_image"),
        ("data.dataset", "from . import images\nfrom ..errors import BusError"),
        ("views", "import numpy\nfrom bus_hf.errors import BusError"),
    ],
)
def test_what_the_table_allows_is_not_a_violation(name, code):
    assert violations(name, code) == []


def test_research_is_not_installed_and_nothing_imports_it():
    for file in sources():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert "research" not in {name.partition(".")[0] for name in names}, file
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (installed,) = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert fnmatch.fnmatch("bus_hf.evaluation", installed)
    assert not fnmatch.fnmatch("research", installed)


@pytest.mark.parametrize("file", [*sources(), *sorted((ROOT / "research").glob("*.py"))], ids=lambda file: file.name)
def test_no_file_is_longer_than_400_lines(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 400


def python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return done.stdout.split()


def test_importing_the_package_is_quick_and_loads_nothing_heavy():
    # Processor time, so that a busy machine does not fail the test.
    code = (
        "import sys, time; start = time.process_time(); import bus_hf; took = time.process_time() - start;"
        "print(took, *sys.modules)"
    )
    runs = [python(code) for _ in range(3)]
    assert min(float(run[0]) for run in runs) < 0.2
    assert set(runs[0]) & {*HEAVY, "cv2", "numpy", "PIL"} == set()


@pytest.mark.parametrize("name", SERVING)
def test_serving_imports_nothing_heavy(name):
    modules = python(f"import sys, bus_hf.{name}; print(*sys.modules)")
    assert f"bus_hf.{name}" in modules
    assert set(modules) & set(HEAVY) == set()


def test_the_public_names_are_there_on_demand_and_nothing_else():
    code = "import bus_hf; print(*(f'{getattr(bus_hf, name).__module__}.{name}' for name in bus_hf.__all__[:-1]))"
    assert python(code) == [
        "bus_hf.inference.detector.BreastCancerDetector",
        "bus_hf.errors.BusError",
        "bus_hf.inference.prediction.Failure",
        "bus_hf.inference.prediction.Prediction",
    ]
    assert python("import bus_hf; print({*bus_hf.__all__} <= {*dir(bus_hf)}, hasattr(bus_hf, 'Detector'))") == [
        "True",
        "False",
    ]


def test_the_version_is_that_of_pyproject_installed_or_not(monkeypatch):
    from importlib import metadata

    import bus_hf

    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

    def lacking(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", lambda name: f"installed {name}")
    assert bus_hf.__version__ == "installed bus-hf"
    monkeypatch.setattr(metadata, "version", lacking)
    assert bus_hf.__version__ == stated
