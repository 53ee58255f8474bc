"""The documents speak of what there is: links lead somewhere, commands and options exist, lists are complete."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import typer.main
from packaging.requirements import Requirement

import featherseg
from featherseg.cards import read_card
from featherseg.cli.main import app
from featherseg.models.registry import list_models
from featherseg.recipes.reading import shipped_recipes
from featherseg.report.tables import marked_block

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md")])
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def shell_lines(text: str) -> Iterator[list[str]]:
    """The commands in the text's shell blocks, as arguments; comments and line continuations resolved."""
    for block in re.findall(r"```(?:sh|bash|shell|console)\n(.*?)```", text, re.DOTALL):
        for line in re.sub(r"\\\n", " ", block).splitlines():
            arguments = shlex.split(line, comments=True)
            if arguments:
                yield arguments


def commands(text: str, program: str) -> list[list[str]]:
    """Calls of ``program`` in shell blocks and in inline code."""
    inline = [
        found.split() for found in re.findall(rf"`({program} [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
    ]
    return [call for call in [*shell_lines(text), *inline] if call[0] == program]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files_that_exist(document):
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    local = {link.split("#")[0] for link in links if not re.match(r"[a-z]+:|#", link)}
    assert sorted(link for link in local if not (document.parent / link).exists()) == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_commands_and_their_options_exist(document):
    for call in commands(document.read_text(encoding="utf-8"), "featherseg"):
        verbs = [word for word in call[1:2] if not word.startswith("-")]
        for verb in verbs:
            assert verb in COMMANDS, f"{' '.join(call)}: there is no such command"
            known = {
                option for parameter in COMMANDS[verb].params for option in parameter.opts + parameter.secondary_opts
            }
            given = {word.split("=")[0] for word in call[2:] if re.match(r"--?[a-z]", word)}
            assert given <= known | {"--help", "-h"}, " ".join(call)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_recipes_that_are_trained_exist(document):
    for call in commands(document.read_text(encoding="utf-8"), "featherseg"):
        if call[1:2] == ["train"] and len(call) > 2 and re.fullmatch(r"[a-z0-9_]+", call[2]):
            assert call[2] in shipped_recipes(), " ".join(call)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_make_targets_exist(document):
    targets = set(re.findall(r"^([a-z]+):", MAKEFILE, re.MULTILINE))
    for call in commands(document.read_text(encoding="utf-8"), "make"):
        assert {word for word in call[1:2] if "=" not in word} <= targets, " ".join(call)


def test_every_dependency_is_explained():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (REPOSITORY / "docs" / "dependencies.md").read_text(encoding="utf-8")
    explained = re.findall(r"^\| ([\w-]+) \|", text.split("## At run time")[1].split("## ")[0], re.MULTILINE)
    assert sorted(set(explained) - {"package"}) == sorted(Requirement(line).name for line in project["dependencies"])
    extras = text.split("## Extras")[1].split("## ")[0]
    for extra, lines in project["optional-dependencies"].items():
        assert f"`{extra}`" in extras
        assert [line for line in lines if not re.search(rf"\b{Requirement(line).name}\b", extras)] == []


def test_every_benchmark_is_described_and_run_by_make_bench():
    scripts = {p.name for p in (REPOSITORY / "benchmarks").glob("*.py") if "__main__" in p.read_text(encoding="utf-8")}
    described = (REPOSITORY / "docs" / "protocols.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `benchmarks/(\w+\.py)` \|", described, re.MULTILINE)) == scripts
    assert set(re.findall(r"benchmarks/(\w+\.py)", MAKEFILE)) == scripts


def test_the_table_of_networks_and_runtimes_is_what_the_tests_found(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "docs"))
    found = spec_from_file_location("table_rows", REPOSITORY / "docs" / "table_rows.py")
    assert found
    assert found.loader
    rows = module_from_spec(found)
    found.loader.exec_module(rows)
    card = read_card(REPOSITORY / "results" / "support.json")
    text = (REPOSITORY / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert marked_block(text, "support") == rows.support_table(card)
    assert set(card["figures"]) <= set(list_models())


def test_the_changelog_begins_with_this_version():
    first = re.search(r"^## (\S+)", (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert first
    assert first[1] == featherseg.__version__
