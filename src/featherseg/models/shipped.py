"""Weights that come with the package, by name: ``fassd_net_l2.camvid``. Nothing is ever downloaded."""

from pathlib import Path

from featherseg.errors import FeathersegError, nearest

SHIPPED = Path(__file__).parents[1] / "weights"
SUFFIX = ".safetensors"


def list_weights() -> list[str]:
    """Names of the weights that come with the package, as ``load`` takes them."""
    return sorted(path.name.removesuffix(SUFFIX) for path in SHIPPED.glob(f"*{SUFFIX}"))


def weights_path(name_or_file: str | Path) -> Path:
    """The file of weights given by path or by the name of shipped ones.

    Raises:
        FeathersegError: there is neither such a file nor such a name.
    """
    path = Path(name_or_file)
    if path.is_file():
        return path
    text = str(name_or_file)
    if path.is_dir():
        inside = sorted(file.name for file in path.glob(f"*{SUFFIX}") if not file.name.startswith("checkpoint"))
        found = f", for example {path / inside[-1]}" if inside else ""
        raise FeathersegError(f"{text}: a folder, not a weights file. Give the path of a {SUFFIX} file{found}.")
    names = list_weights()
    if text in names:
        return SHIPPED / f"{text}{SUFFIX}"
    shipped = f"Shipped: {', '.join(names)}." if names else "This build ships no weights."
    raise FeathersegError(
        f"{text}: no such weights file, and no shipped weights of that name{nearest(text, names)}. {shipped}"
    )
