"""What a Cityscapes folder lacks, held against what is distributed: packages, cities, counts, instance files.

* A city that is missing is an error: whatever is trained or judged on the rest is not Cityscapes' split any more.
  Training and judging say so too (:meth:`~featherseg.data.cityscapes.Cityscapes.shortfall`), and go on. A package that
  is not there at all is a warning, since train can be used without test.
* Facts (cities, counts, packages) are those of the official download page and of Cordts et al. 2016, Sec. 2.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from featherseg.data.cityscapes import (
    CITIES,
    COARSE,
    COUNTS,
    FINE,
    IMAGES,
    SPLITS,
    cityscapes_splits,
    cityscapes_tree,
    image_paths,
)
from featherseg.data.pairs import some_names

PACKAGES = {
    "leftImg8bit_trainvaltest.zip": "11 GB",
    "leftImg8bit_trainextra.zip": "44 GB",
    "gtFine_trainvaltest.zip": "241 MB",
    "gtCoarse.zip": "1.3 GB",
}
"""Archives of the download page and their sizes."""

SITE = "https://www.cityscapes-dataset.com"


class Gap(NamedTuple):
    """One thing that is missing, in the words of :class:`featherseg.data.check.Problem`."""

    level: Literal["error", "warning"]
    kind: str
    where: str
    what: str
    mend: str


def images_package(split: str) -> str:
    """The archive that holds the images of a split."""
    return "leftImg8bit_trainextra.zip" if split == "train_extra" else "leftImg8bit_trainvaltest.zip"


def labels_package(kind: str) -> str:
    """The archive that holds the labels of a kind, gtFine or gtCoarse."""
    return "gtFine_trainvaltest.zip" if kind == FINE else "gtCoarse.zip"


def how_to_get(package: str, root: Path) -> str:
    """One sentence: where the archive comes from and where it goes."""
    return (
        f"Register at {SITE} (free for research), download {package} ({PACKAGES[package]}) there or with csDownload of "
        f"the package cityscapesscripts, and unpack it in {root}"
    )


def looks_like_cityscapes(data: str | Path) -> bool:
    """Whether a folder holds anything of a Cityscapes tree, be it half of one."""
    root, _ = cityscapes_tree(data)
    return any((root / name).is_dir() for name in (IMAGES, FINE, COARSE))


def cityscapes_gaps(data: str | Path) -> Iterator[Gap]:
    """Yield what the tree lacks, packages first; file names are compared, nothing is decoded."""
    root, kind = cityscapes_tree(data)
    yield from _missing_packages(root, kind, usable=bool(cityscapes_splits(Path(data))))
    for split in SPLITS[kind]:
        if (root / IMAGES / split).is_dir() and (root / kind / split).is_dir():
            yield from _split_gaps(root, kind, split)


def _missing_packages(root: Path, kind: str, *, usable: bool) -> Iterator[Gap]:
    lacking: dict[str, list[str]] = {}
    for split in SPLITS[kind]:
        for folder, package in ((IMAGES, images_package(split)), (kind, labels_package(kind))):
            if not (root / folder / split).is_dir():
                lacking.setdefault(package, []).append(f"{folder}/{split}")
    for package, folders in lacking.items():
        level = "warning" if usable else "error"
        yield Gap(level, "missing package", str(root), f"no {', '.join(folders)}", f"{how_to_get(package, root)}.")
    if kind == FINE:
        for folder, package in (
            (COARSE, labels_package(COARSE)),
            (f"{IMAGES}/train_extra", images_package("train_extra")),
        ):
            if not (root / folder).is_dir():
                mend = f"Only training on coarse labels ({root / COARSE}) needs it. {how_to_get(package, root)}."
                yield Gap("warning", "missing package", str(root), f"no {folder}", mend)


def _split_gaps(root: Path, kind: str, split: str) -> Iterator[Gap]:
    images = list(image_paths(root, split))
    with_images = {path.parent.name for path in images}
    with_labels = {path.parent.name for path in (root / kind / split).glob(f"*/*_{kind}_label*Ids.png")}
    missing = [city for city in CITIES[split] if city not in with_images]
    if missing:
        what = f"no images of {', '.join(missing)}: {len(missing)} of {len(CITIES[split])} cities of {split!r}"
        mend = f"Unpack {images_package(split)} again: without them, figures are not those of Cityscapes {split}"
        yield Gap("error", "missing city", str(root / IMAGES / split), what, f"{mend}.")
    bare = sorted(with_images - with_labels)
    if bare:
        what = f"images and no labels of {', '.join(bare)}"
        mend = f"Unpack {labels_package(kind)} again, or remove the images"
        yield Gap("error", "city without labels", str(root / kind / split), what, f"{mend}.")
    for city in sorted(with_images - set(CITIES[split])):
        what = f"{city} is no city of the official split {split!r}"
        yield Gap(
            "warning", "unknown city", str(root / IMAGES / split / city), what, "Move it out, or expect other figures."
        )
    if not missing and len(images) != COUNTS[split]:
        what = f"{len(images):,} images, where the official split has {COUNTS[split]:,}"
        mend = f"Unpack {images_package(split)} again, or expect other figures"
        yield Gap("warning", "other count", str(root / IMAGES / split), what, f"{mend}.")
    if kind == FINE:
        yield from _missing_instances(root, split)


def _missing_instances(root: Path, split: str) -> Iterator[Gap]:
    labels = sorted((root / FINE / split).glob("*/*_gtFine_labelIds.png"))
    bare = [path for path in labels if not path.with_name(path.name.replace("labelIds", "instanceIds")).exists()]
    if bare:
        what = f"{len(bare):,} of {len(labels):,} labels have no instanceIds file: {some_names(bare, 2)}"
        mend = f"Unpack {labels_package(FINE)} again; without them IoU is judged and iIoU is not"
        yield Gap("warning", "missing instances", str(root / FINE / split), what, f"{mend}.")
