"""Fixtures of exported files; runtimes that are not installed skip the tests that ask for them."""

from pathlib import Path
from typing import Any

import pytest
from exported_files import NAME, SUFFIXES, needs
from lively import CLASSES, lively

from featherseg.deploy import export as export_module
from featherseg.deploy.export import export


@pytest.fixture(scope="module")
def export_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def small_gate():
    """The gate's pictures of open sizes are made small, to save time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export_module, "_OPEN_SIZES", ((40, 56), (33, 21)))
        yield


_made: dict[tuple[Any, ...], Path] = {}


@pytest.fixture
def exported(export_folder: Path):
    """Export a lively network once; ``(runtime, **arguments) -> path``."""

    def make(runtime: str, **arguments: Any) -> Path:
        key = (runtime, *sorted(arguments.items()))
        if key not in _made:
            network, about = lively(NAME)
            named = {"classes": [f"thing {n}" for n in range(CLASSES)], "palette": [[n, 2, 3] for n in range(CLASSES)]}
            target = export_folder / f"{len(_made)}{SUFFIXES[needs(runtime)]}"
            report = export(network, about | named, runtime, target, **arguments)
            assert report.parity.passed
            _made[key] = target
        return _made[key]

    return make


@pytest.fixture(params=SUFFIXES)
def file(request: pytest.FixtureRequest, exported) -> Path:
    """A file of any size that ends in logits."""
    return exported(request.param)
