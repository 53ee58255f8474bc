"""What is installed: the wheel is whole, the commands exist, and the tested versions are complete and fit."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import featherseg

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LARGEST_WEIGHTS = 8_000_000  # as runs/ship_weights.py has it
# Libraries of torch's CUDA build, which pip adds or leaves out as the build asks for.
CUDA = re.compile(r"nvidia-|cuda-|triton$")


def constraints() -> dict[str, Requirement]:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(requirement.name): requirement for requirement in found}


def direct() -> list[Requirement]:
    """What pyproject.toml asks for, extras included."""
    listed = PROJECT["dependencies"] + [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    return [Requirement(line) for line in listed]


def needed() -> set[str]:
    """Names of all packages that an installation with the extra dev brings, as far as they are installed here."""
    found: set[str] = set()
    open_ends = [Requirement(line) for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]]
    while open_ends:
        requirement = open_ends.pop()
        name = canonicalize_name(requirement.name)
        extras = requirement.extras or {""}
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        if name in found or CUDA.match(name):
            continue
        found.add(name)
        try:
            below = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            continue
        for one in below:
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras):
                open_ends.append(Requirement(str(one).split(";")[0]))
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """Names and sizes of the files in the wheel, built from a copy so that the repository stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, folder)
    leave_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(REPOSITORY / "src", folder / "src", ignore=leave_out)
    program = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, capture_output=True)
    (built,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        return {entry.filename: entry.file_size for entry in archive.infolist()}


def test_the_wheel_holds_every_file_of_the_package(wheel):
    source = REPOSITORY / "src"
    ours = {path.relative_to(source).as_posix() for path in (source / "featherseg").rglob("*") if path.is_file()}
    assert {name for name in ours if "__pycache__" not in name} <= set(wheel)


def test_the_wheel_holds_nothing_but_the_package_and_its_metadata(wheel):
    assert {name.split("/")[0] for name in wheel} == {"featherseg", f"featherseg-{featherseg.__version__}.dist-info"}


def test_the_wheel_carries_the_licence(wheel):
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)


def test_weights_in_the_wheel_are_small(wheel):
    assert not {n: size for n, size in wheel.items() if n.endswith(".safetensors") and size >= LARGEST_WEIGHTS}


@pytest.mark.parametrize("command", PROJECT["scripts"])
def test_every_command_leads_to_a_function(command):
    module, _, function = PROJECT["scripts"][command].partition(":")
    assert callable(getattr(import_module(module), function))


def test_the_package_and_its_metadata_have_one_version():
    assert PROJECT["version"] == featherseg.__version__


@pytest.mark.parametrize("requirement", direct(), ids=lambda requirement: requirement.name)
def test_the_tested_version_of_a_dependency_satisfies_what_the_project_asks_for(requirement):
    (pin,) = constraints()[canonicalize_name(requirement.name)].specifier
    assert pin.operator == "=="
    assert requirement.specifier.contains(Version(pin.version))


def test_every_package_that_is_installed_has_a_tested_version():
    assert needed() - set(constraints()) == set()


def test_the_tested_versions_name_no_build_and_no_place():
    for requirement in constraints().values():
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", str(requirement))
