"""From what a person types as DATA to a data set: "streets", a folder whose layout is recognised, or a YAML.

* Layouts are recognised by folders that only they have, in one table; a description (featherseg.yaml) beats them all.
* A split that is empty or has files without partner is refused, except with ``lenient``, which the checker uses.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from featherseg.data import camvid, cityscapes, coco, folder, kitti
from featherseg.data.dataset import SegmentationDataset
from featherseg.data.folder_schema import EXAMPLE, read_spec
from featherseg.errors import FeathersegError, nearest

STREETS = "streets"
STREETS_COUNTS = {"train": 400, "val": 60, "test": 100}
"""How many scenes each split of the procedural source has when no count is given."""


@dataclass(frozen=True)
class Layout:
    """A way files can lie in a folder. ``splits`` gives an empty list where the folder is not laid out so."""

    name: str
    looks_like: str
    splits: Callable[[Path], list[str]]
    open: Callable[..., SegmentationDataset]


LAYOUTS = (
    Layout("CamVid, SegNet layout", "train/ and trainannot/", camvid.segnet_splits, camvid.CamVid),
    Layout("CamVid, original", f"{camvid.STILLS}/ and {camvid.LABELS}/", camvid.original_splits, camvid.CamVidOriginal),
    Layout(
        "Cityscapes",
        f"{cityscapes.IMAGES}/ and {cityscapes.FINE}/, or ROOT/{cityscapes.COARSE} beside {cityscapes.IMAGES}/",
        cityscapes.cityscapes_splits,
        cityscapes.Cityscapes,
    ),
    Layout("COCO, 2017", "annotations/instances_train2017.json and train2017/", coco.coco_splits, coco.Coco),
    Layout("plain folder", "images/train/ and masks/train/", folder.plain_splits, folder.FolderDataset.from_folder),
)


def _description(data: str | Path) -> Path | None:
    path = Path(data)
    if path.suffix.lower() in (".yaml", ".yml"):
        return path
    return folder.find_yaml(path)


def layout_names() -> list[str]:
    """What :func:`named_layouts` knows."""
    return list(dict.fromkeys(layout.name.split(",")[0].lower() for layout in LAYOUTS))


def named_layouts(name: str) -> list[Layout]:
    """The layouts of the data set called ``name`` ("camvid", "cityscapes").

    Raises:
        FeathersegError: none is called so; the message lists the names.
    """
    known = layout_names()
    found = [layout for layout in LAYOUTS if layout.name.split(",")[0].lower() == name.lower()]
    if not found:
        raise FeathersegError(f"no layout is called {name!r}{nearest(name, known)}. There are: {', '.join(known)}.")
    return found


def _layout(data: str | Path) -> Layout:
    root = Path(data)
    for layout in LAYOUTS:
        if layout.splits(root):
            return layout
    if not root.exists():
        hint = nearest(str(data), [STREETS])
        raise FeathersegError(f"{data}: no such folder or file. Give a folder, a YAML, or {STREETS!r}{hint}.")
    if root.is_file():
        raise FeathersegError(
            f"{data}: a file, but not a YAML. Give a folder, a YAML that describes one, or {STREETS!r}."
        )
    if kitti.kitti_splits(root):
        raise FeathersegError(
            f"{data}: KITTI's object data, which has boxes and no masks. A detector can be trained on it; "
            f"`featherseg check {data}` checks it."
        )
    half = (root / cityscapes.IMAGES).is_dir() or (root / cityscapes.FINE).is_dir()
    if half or (root / cityscapes.COARSE).is_dir():
        raise FeathersegError(
            f"{data}: a Cityscapes folder without images or labels. `featherseg check cityscapes {data}` says what is "
            f"missing; coarse labels are opened as {root / cityscapes.COARSE}."
        )
    looked = "; ".join([f"{folder.YAML_NAMES[0]}", *(f"{item.looks_like} ({item.name})" for item in LAYOUTS)])
    raise FeathersegError(
        f"{data}: holds no data set that is recognised. Looked for: {looked}. To describe any other layout, save this "
        f"as {root / folder.YAML_NAMES[0]} and change it:\n{EXAMPLE}"
    )


def is_segmented(data: str | Path) -> bool:
    """Whether ``data`` is a data set with masks that is recognised, or half of one."""
    root = Path(data)
    halves = (cityscapes.IMAGES, cityscapes.FINE, cityscapes.COARSE)
    return (
        str(data) == STREETS
        or _description(data) is not None
        or any(layout.splits(root) for layout in LAYOUTS)
        or any((root / half).is_dir() for half in halves)
    )


def available_splits(data: str | Path) -> list[str]:
    """Return the names of the splits of a data set, train first.

    Raises:
        FeathersegError: it is not recognised; the message lists what was looked for and shows a YAML to begin with.
    """
    if str(data) == STREETS:
        return list(STREETS_COUNTS)
    described = _description(data)
    found = list(read_spec(described).splits) if described else _layout(data).splits(Path(data))
    order = {name: rank for rank, name in enumerate(camvid.SPLITS)}
    return sorted(found, key=lambda name: (order.get(name, len(order)), name))


def open_dataset(
    data: str | Path,
    split: str,
    *,
    size: tuple[int, int] | None = None,
    count: int | None = None,
    seed: int = 0,
    lenient: bool = False,
) -> SegmentationDataset:
    """Open one split of a data set.

    Args:
        data: "streets", a folder, or a YAML that describes one.
        size: (height, width) of the procedural scenes, 240 x 320 by default; files keep the size they have.
        count: number of procedural scenes, by default 400, 60 and 100 for train, val and test; for files, None.
        seed: of the procedural scenes.
        lenient: open a split even if it is empty or files of it lack their partner.

    Raises:
        FeathersegError: ``data`` is not recognised, it has no such split, or the split cannot be used; the message
            says what was looked for and what there is.
    """
    if not isinstance(data, str | Path) or not isinstance(split, str):
        raise FeathersegError(f"a data set is opened by a path or a name and a split, not by {data!r} and {split!r}.")
    known = available_splits(data)
    if split not in known:
        raise FeathersegError(f"{data}: no split {split!r}. There are: {', '.join(known)}{nearest(split, known)}.")
    if str(data) == STREETS:
        from featherseg.data.streets import Streets  # compiled code, needed by this source alone

        return Streets(split, STREETS_COUNTS[split] if count is None else count, size=size or (240, 320), seed=seed)
    if size is not None or count is not None:
        raise FeathersegError(f"{data}: size and count are for {STREETS!r}; a folder's images are read as they are.")
    described = _description(data)
    if described:
        return folder.FolderDataset.from_yaml(described, split, lenient=lenient)
    return _layout(data).open(data, split, lenient=lenient)
