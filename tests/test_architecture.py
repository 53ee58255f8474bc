"""The house is as docs/architecture.md says: the table of rooms there is compared with the imports of every module.

The table is the specification: its order says which room may import which, its last column which packages from outside.
"""

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import featherseg

REPOSITORY = Path(__file__).parents[1]
PACKAGE = REPOSITORY / "src" / "featherseg"
MODULES = sorted(PACKAGE.rglob("*.py"))
# The front doors: `__init__` names what it loads on first use, `__main__` is `python -m featherseg`.
DOORS = [PACKAGE / "__init__.py", PACKAGE / "__main__.py"]
INSIDE = [path for path in MODULES if path not in DOORS]
GROUND_FLOOR = {"errors", "files", "randomness", "cards"}
LONGEST_FILE = 400
GENERATED = {"__pycache__", "featherseg.egg-info", ".pytest_cache", ".ruff_cache", ".hypothesis"}


@cache
def rooms() -> list[tuple[set[str], set[str]]]:
    """The rows of the table: (rooms, packages from outside), the ground floor first."""
    text = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.split("| room | holds | from outside |", 1)[1].split("\n\n", 1)[0]
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")]
    return [(set(re.findall(r"`(\w+)`", row[0])), set(re.findall(r"`(\w+)`", row[2]))) for row in cells]


def level(room: str) -> int:
    """The line of the table that ``room`` stands on."""
    return next(number for number, (names, _) in enumerate(rooms()) if room in names)


def room_of(path: Path) -> str:
    """The room of a module; modules beside the rooms are their own."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(tree: ast.Module) -> Iterator[str]:
    """Every module that is imported anywhere in ``tree``, late imports and ``import_module("...")`` included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            if node.module == "featherseg":
                yield from (behind_the_front_door(alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and called(node).endswith("import_module") and node.args:
            name = node.args[0]
            pieces = name.values[:1] if isinstance(name, ast.JoinedStr) else [name]
            yield from (str(piece.value) for piece in pieces if isinstance(piece, ast.Constant))


def behind_the_front_door(name: str) -> str:
    """The module that ``from featherseg import name`` loads."""
    return featherseg._EXPORTS.get(name, "featherseg" if name.startswith("__") else f"featherseg.{name}")


def called(node: ast.Call) -> str:
    """The dotted name of what is called, as far as it is one."""
    return ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    """``(module, dotted name, call)`` of every call in the package."""
    for path in MODULES:
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.Call):
                yield name_of(path), called(node), node


def rooms_imported(tree: ast.Module) -> set[str]:
    parts = [name.split(".") for name in imports(tree)]
    return {part[1] for part in parts if part[0] == "featherseg" and len(part) > 1}


def packages_imported(tree: ast.Module) -> set[str]:
    """Packages that are neither ours nor Python's."""
    return {name.split(".")[0] for name in imports(tree)} - {"featherseg", "__future__"} - sys.stdlib_module_names


def test_the_table_names_every_room_and_module_that_there_is():
    assert {room_of(path) for path in INSIDE} <= set().union(*(names for names, _ in rooms()))


def test_the_tables_first_line_is_the_ground_floor():
    assert rooms()[0][0] == GROUND_FLOOR


@pytest.mark.parametrize("path", INSIDE, ids=name_of)
def test_a_module_imports_only_rooms_above_its_own(path):
    own = room_of(path)
    for other in rooms_imported(syntax(path)) - {own}:
        below = other not in GROUND_FLOOR and level(other) >= level(own)
        assert not below, f"{name_of(path)} imports {other}, which docs/architecture.md puts beside or below {own}"


@pytest.mark.parametrize("path", INSIDE, ids=name_of)
def test_a_module_imports_only_the_packages_its_room_may(path):
    own = room_of(path)
    strange = packages_imported(syntax(path)) - rooms()[level(own)][1]
    assert not strange, f"{name_of(path)} imports {sorted(strange)}, which docs/architecture.md does not give {own}"


def test_the_table_grants_no_package_that_nobody_uses():
    used: dict[int, set[str]] = {}
    for path in INSIDE:
        used.setdefault(level(room_of(path)), set()).update(packages_imported(syntax(path)))
    assert {number: rooms()[number][1] for number in used} == {
        number: rooms()[number][1] & packages for number, packages in used.items()
    }


@pytest.mark.parametrize(
    ("room", "never"),
    [("models", "cv2"), ("losses", "cv2"), ("metrics", "torch"), ("recipes", "torch"), ("report", "torch")],
)
def test_the_table_keeps_rooms_free_of_what_they_must_not_know(room, never):
    assert never not in rooms()[level(room)][1]


def test_no_module_imports_relatively():
    assert not [name_of(path) for path in MODULES if any(name.startswith(".") for name in imports(syntax(path)))]


def test_a_rooms_init_is_empty():
    full = [path.parent.name for path in PACKAGE.glob("*/__init__.py") if path.read_text(encoding="utf-8").strip()]
    assert not full


def test_nothing_imports_the_command_line():
    guilty = [name_of(path) for path in INSIDE if room_of(path) != "cli" and "cli" in rooms_imported(syntax(path))]
    assert not guilty


def test_importing_featherseg_loads_nothing_heavy():
    heavy = "torch numpy cv2 matplotlib numba pydantic PIL typer rich yaml safetensors"
    program = f"import sys, featherseg; print(*sorted(set('{heavy}'.split()) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("program", ["from featherseg.errors import FeathersegError", "import featherseg.cards"])
def test_the_ground_floor_loads_no_torch(program):
    program += "; import sys; print('torch' in sys.modules, 'cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_no_pickle_is_written():
    writers = {"torch.save", "pickle.dump", "pickle.dumps", "joblib.dump", "np.save", "numpy.save", "np.savez"}
    guilty = [(module, name) for module, name, _ in calls() if name in writers or name.endswith("Pickler")]
    assert [g for g in guilty if "Unpickler" not in g[1]] == []


def test_foreign_pickles_are_read_by_the_importer_alone_and_safely():
    loads = [(module, node) for module, name, node in calls() if name in ("torch.load", "pickle.load", "pickle.loads")]
    assert {module for module, _ in loads} <= {"models/importer.py"}
    for _, node in loads:
        safe = [k.value.value for k in node.keywords if k.arg == "weights_only" and isinstance(k.value, ast.Constant)]
        assert safe == [True]


def test_files_are_written_through_atomic_write_alone():
    def writes(name: str, node: ast.Call) -> bool:
        modes = [*node.args, *(keyword.value for keyword in node.keywords)]
        opened = name == "open" or name.endswith((".open", ".fdopen"))
        if opened:
            return any(isinstance(m, ast.Constant) and re.fullmatch(r"[wxa]b?\+?|r\+b?", str(m.value)) for m in modes)
        return name.endswith((".write_text", ".write_bytes", "cv2.imwrite", "np.savetxt"))

    guilty = {module for module, name, node in calls() if writes(name, node)}
    # The log grows line by line and is cut back to the checkpoint on resume.
    assert guilty <= {"files.py", "training/log.py"}


def test_random_numbers_come_from_the_generator_of_their_use_alone():
    strange = {"np.random.default_rng", "numpy.random.default_rng", "np.random.Generator", "torch.rand", "torch.randn"}
    guilty = [(module, name) for module, name, _ in calls() if name in strange or name.startswith("random.")]
    assert [(module, name) for module, name in guilty if module != "randomness.py"] == []


def written_files() -> list[Path]:
    """What people wrote: everything in the repository but what was installed, built or cached."""
    found = [path for path in REPOSITORY.iterdir() if path.is_file() and path.name != ".git"]
    for folder in ("src", "tests", "docs", "benchmarks", "results", ".ci"):
        found += [path for path in (REPOSITORY / folder).rglob("*") if path.is_file()]
    found += [path for path in (REPOSITORY / "runs").glob("*") if path.is_file()]
    return sorted(path for path in found if not GENERATED & set(path.parts))


def test_no_python_file_is_too_long_to_hold_in_the_head():
    long = {
        path.relative_to(REPOSITORY).as_posix(): lines
        for path in written_files()
        if path.suffix == ".py" and (lines := len(path.read_text(encoding="utf-8").splitlines())) > LONGEST_FILE
    }
    assert not long


def test_no_two_modules_of_the_tests_have_one_name():
    names = Counter(path.name for path in (REPOSITORY / "tests").rglob("*.py") if path.name != "conftest.py")
    assert [name for name, count in names.items() if count > 1] == []


def test_no_text_names_a_folder_of_one_machine_or_a_package_registry():
    folders = "|".join(("work", "tmp", "root", "opt", "mnt"))
    names = ("python" + "hosted", "py" + "pi", "download.py" + "torch", "npm" + "js")
    hosts = "|".join(f"{name}.org" for name in names)
    pattern = re.compile(rf"(?<![\w.~-])/(?:{folders})/|{hosts}")
    found = []
    for path in written_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(REPOSITORY)}: {match[0]}" for match in pattern.finditer(text)]
    assert not found
