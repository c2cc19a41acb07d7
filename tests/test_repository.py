"""The repository as a whole: a valid Space, bounded requirements, commands that exist, nothing too big."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, SpaceCard
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
LARGEST = 60 * 2**20

SERVING = [
    Requirement(line)
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    if line.strip() and not line.startswith("#")
]
EXTRAS = [
    Requirement(text)
    for texts in PROJECT["optional-dependencies"].values()
    for text in texts
    if not text.startswith(f"{PROJECT['name']}[")
]
# timm imports torchvision.
IMPORTED = [requirement for requirement in SERVING if requirement.name != "torchvision"]


def tracked():
    """Files that a commit of everything would hold."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


# ---- the Space


def test_the_readme_is_the_card_of_a_space():
    card = SpaceCard(README, ignore_metadata_errors=False).data
    assert card.sdk == "gradio"
    assert card.license == "mit"
    assert card.title
    assert (ROOT / card.app_file).is_file()
    assert len(card.tags) >= 3
    # What the Hub refuses, by its reference of Space settings.
    assert len(card.to_dict()["short_description"]) <= 60
    palette = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
    assert {card.to_dict()["colorFrom"], card.to_dict()["colorTo"]} <= palette
    # Only what exists may be named, and nothing is pushed yet.
    assert card.models is None
    assert card.datasets is None


def test_the_space_runs_what_is_tested_here():
    card = SpaceCard(README).data
    gradio = next(requirement for requirement in SERVING if requirement.name == "gradio")
    lower = next(part.version for part in gradio.specifier if part.operator == ">=")
    assert isinstance(card.python_version, str)
    assert Version(card.sdk_version) == Version(lower)
    assert SpecifierSet(PROJECT["requires-python"]).contains(card.python_version + ".0")


def test_the_data_set_card_is_one():
    card = DatasetCard((ROOT / "dataset_card" / "README.md").read_text(encoding="utf-8"), ignore_metadata_errors=False)
    assert "image-classification" in card.data.task_categories
    assert card.data.license == "other"


# ---- requirements


@pytest.mark.parametrize("requirement", SERVING + EXTRAS, ids=str)
def test_requirements_are_bounded(requirement):
    operators = {part.operator for part in requirement.specifier}
    assert operators == {"=="} or operators == {">=", "<"}, "give a lower and an upper bound, or one version"
    assert requirement.url is None
    assert requirement.marker is None


def test_every_requirement_says_what_it_is_for():
    for file in ("requirements.txt", "pyproject.toml"):
        reason = False
        for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
            text = line.strip()
            if text.startswith("#"):
                reason = True
            elif re.match(r'"?[A-Za-z][\w.-]*(\[[\w,]+\])?(>=|==)', text):
                assert reason, f"{file}: {text} has no comment above it"
            elif not text or text.endswith(("[", "]")):
                reason = False


@pytest.mark.parametrize("requirement", IMPORTED, ids=lambda requirement: requirement.name)
def test_what_serving_requires_is_imported(requirement):
    module = {"opencv-python-headless": "cv2", "pillow": "PIL"}.get(requirement.name, requirement.name)
    pattern = re.compile(rf"^\s*(import|from) {module}\b", re.MULTILINE)
    assert any(pattern.search(file.read_text(encoding="utf-8")) for file in (ROOT / "bus_hf").rglob("*.py"))


# ---- the lock of serving

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
# One entry a package, or one a range of Pythons where no version fits all.
LOCKED = [Requirement(line) for line in re.findall(r"^([A-Za-z][^\n]*?) \\$", LOCK, re.MULTILINE)]


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("requirement", SERVING, ids=str)
def test_the_lock_meets_what_serving_requires(requirement, python):
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    result = [
        locked
        for locked in LOCKED
        if canonicalize_name(locked.name) == canonicalize_name(requirement.name)
        and (locked.marker is None or locked.marker.evaluate(here))
    ]
    assert len(result) == 1, "make lock"
    (pinned,) = result[0].specifier
    assert pinned.operator == "=="
    assert requirement.specifier.contains(pinned.version), "make lock"


def test_the_lock_has_hashes_and_no_place():
    entries = re.split(r"\n(?=[A-Za-z])", LOCK)[1:]
    assert len(entries) == len(LOCKED) > len(SERVING)
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]
    assert not re.search(r"index-url|find-links|https?://|file:|@ |^-e|[\s=]/\w", LOCK, re.MULTILINE)
    assert "# torch is the build of" in LOCK
    assert not any("+" in str(locked.specifier) for locked in LOCKED)


def test_advisories_are_told_and_never_fail(tmp_path):
    # Where nothing can be installed: no index answers at this address.
    script = ROOT / ".ci" / "advisories"
    environment = os.environ | {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0", "PIP_NO_INDEX": "1"}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": str(tmp_path)}
    done = subprocess.run([str(script)], capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0
    assert done.stdout == "[advisories] pip-audit could not be installed; requirements.lock was not looked up\n"
    assert ".ci/advisories" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


# ---- commands


def test_the_readme_begins_with_two_commands_that_exist():
    commands = re.findall(r"^make (\w+)", README, re.MULTILINE)
    assert commands[:2] == ["serve", "test"]
    assert README.index("make serve") < README.index("\n## How good")
    for name in re.findall(r"(?:`|\n)make ([a-z]+)", README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        assert re.search(rf"^{name}:", MAKEFILE, re.MULTILINE), f"the Makefile has no {name}"


def test_continuous_integration_calls_the_tests_by_the_readme():
    script = ROOT / ".ci" / "run"
    calls = [line for line in script.read_text(encoding="utf-8").splitlines() if not line.startswith((" ", "#"))]
    assert calls[-1] == "make test"
    assert "make lint" in calls
    assert "set -euo pipefail" in calls
    assert script.stat().st_mode & 0o111


def test_the_workflow_calls_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"
    (python,) = [step["with"]["python-version"] for step in job["steps"] if "python-version" in step.get("with", {})]
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.0")


def test_hooks_call_the_tools_of_lint():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    called = [hook["entry"].split()[2] for repo in config["repos"] for hook in repo["hooks"]]
    assert called == ["ruff", "ruff", "mypy"]
    assert {Requirement(text).name for text in PROJECT["optional-dependencies"]["lint"]} == set(called)


def test_what_the_readme_shows_of_the_command_line_is_right():
    from bus_hf.cli import parser

    shown = [
        line.partition("bus-hf ")[2].partition("  #")[0].split()
        for line in README.splitlines()
        if re.match(r"(\.venv/bin/)?bus-hf ", line)
    ]
    assert len(shown) >= 6
    for arguments in shown:
        assert callable(parser().parse_args([word for word in arguments if word]).run)


def test_make_sets_up_once(tmp_path):
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())

    def make(*arguments):
        # `true` and `false` stand for pip. The make that runs these tests must not leave its marks on this one.
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
        return subprocess.run(
            ["make", "setup", *arguments], cwd=tmp_path, env=plain, capture_output=True, text=True, check=False
        )

    missing = make("PYTHON=/nowhere/python3.11")
    assert missing.returncode != 0
    assert "no Python 3.11" in missing.stderr
    assert make("PIP=false").returncode != 0
    first = make("PIP=true")
    assert first.returncode == 0
    assert "installing everything" in first.stdout
    assert make("PIP=true").stdout == "[setup] .venv is ready\n"
    python = tmp_path / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    assert "making .venv" in make("PIP=true").stdout


# ---- the rest


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_no_file_is_too_big():
    for path in tracked():
        assert path.stat().st_size <= LARGEST, f"{path} is over 60 MB"


def test_no_pickle_and_no_cache_is_tracked():
    for path in tracked():
        assert path.suffix not in {".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".bin", ".pyc"}, path
        assert not {".venv", "runs", "logs", "__pycache__"} & set(path.relative_to(ROOT).parts), path
