"""Fixtures and rules that every room's tests share."""

import os
import shutil
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from support_card import SupportRecorder

settings.register_profile("untimed", deadline=None)  # how long an example takes depends on what else runs
settings.load_profile("untimed")

SHARED_DATA = Path(os.environ.get("FEATHERSEG_SHARED", Path(__file__).parents[2] / "shared")) / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--support-card", type=Path, help="record here which network goes to which runtime")


def pytest_configure(config: pytest.Config) -> None:
    """Outcomes are recorded by the process that gathers those of all."""
    file = config.getoption("--support-card")
    if file is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SupportRecorder(file), "support recorder")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on the shared data are left out, not failed, where it is absent."""
    if SHARED_DATA.is_dir():
        return
    leave_out = pytest.mark.skip(reason="the shared data folder is not beside the repository")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(leave_out)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the repository."""
    return SHARED_DATA


@pytest.fixture(scope="session")
def cityscapes_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Cityscapes folder made of street scenes; not to be changed."""
    from featherseg.data.streets.cityscapes_tree import write_cityscapes

    return write_cityscapes(tmp_path_factory.mktemp("cityscapes"))


@pytest.fixture
def cityscapes_copy(cityscapes_tree: Path, tmp_path: Path) -> Path:
    """A copy of the small Cityscapes folder, to be spoilt."""
    return Path(shutil.copytree(cityscapes_tree, tmp_path / "tree"))
