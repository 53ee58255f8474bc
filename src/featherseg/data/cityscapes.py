"""Cityscapes (Cordts et al. 2016) as it is distributed: ``leftImg8bit`` beside ``gtFine`` or ``gtCoarse``, by city.

* ``ROOT``, or ``ROOT/gtFine``, is the fine annotation (train, val, test); ``ROOT/gtCoarse`` the coarse one (train,
  train_extra, val). They are two data sets, since they label the same images; the coarse one has a name of its own, so
  that no protocol string takes one for the other.
* Labels are the ``labelIds`` files, whose 34 ids are mapped to the 19 train classes; everything else is ignored. Masks
  that already hold train ids (``labelTrainIds``) are taken where they lie beside them.
* ``instanceIds`` files are read for the judgement alone; a split without them can be trained and judged by IoU.
* A split with other cities or another number of images than the official one is opened, and says so wherever it is
  trained or judged on: miniatures are useful, and their figures must not be taken for Cityscapes'.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from featherseg.data.dataset import Shortfall
from featherseg.data.headers import SpoiltFile
from featherseg.data.images import describe_counts, read_mask, read_wide_mask
from featherseg.data.labels import CITYSCAPES19, IGNORE
from featherseg.data.pairs import Listing, Pair, PairedDataset
from featherseg.errors import FeathersegError
from featherseg.metrics.cityscapes_labels import LABEL_IDS, LABELS

IMAGES, FINE, COARSE = "leftImg8bit", "gtFine", "gtCoarse"
SPLITS = {FINE: ("train", "val", "test"), COARSE: ("train", "train_extra", "val")}
IMAGE_SUFFIX = "_leftImg8bit.png"
CITIES = {
    "train": (
        "aachen", "bochum", "bremen", "cologne", "darmstadt", "dusseldorf", "erfurt", "hamburg", "hanover", "jena",
        "krefeld", "monchengladbach", "strasbourg", "stuttgart", "tubingen", "ulm", "weimar", "zurich",
    ),
    "val": ("frankfurt", "lindau", "munster"),
    "test": ("berlin", "bielefeld", "bonn", "leverkusen", "mainz", "munich"),
    "train_extra": (
        "augsburg", "bad-honnef", "bamberg", "bayreuth", "dortmund", "dresden", "duisburg", "erlangen", "freiburg",
        "heidelberg", "heilbronn", "karlsruhe", "konigswinter", "konstanz", "mannheim", "muhlheim-ruhr", "nuremberg",
        "oberhausen", "saarbrucken", "schweinfurt", "troisdorf", "wuppertal", "wurzburg",
    ),
}  # fmt: skip
"""The 50 cities by split."""

COUNTS = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
"""Images of each split."""

LARGEST_LABEL_ID = len(LABELS) - 1
LARGEST_INSTANCE_ID = len(LABELS) * 1000 - 1
MOST_NAMED = 5

_FRAME = re.compile(r"([^_]+_\d{6}_\d{6})(?:_.*)?")
_TO_TRAIN_ID = np.full(256, IGNORE, np.uint8)
_TO_TRAIN_ID[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))


def frame_of(path: Path) -> str | None:
    """The frame a file belongs to, by its name: CITY_SEQUENCE_FRAME, as ``ulm_000000_000019``; None for other names."""
    found = _FRAME.fullmatch(path.stem)
    return found[1] if found else None


def cityscapes_tree(data: str | Path) -> tuple[Path, str]:
    """The root of the tree and the kind of labels, gtFine or gtCoarse, that ``data`` stands for."""
    data = Path(data)
    name = data.absolute().name
    if name in SPLITS and (data.absolute().parent / IMAGES).is_dir():
        return (data.parent if data.name else data.absolute().parent), name
    return data, FINE


def cityscapes_splits(data: Path) -> list[str]:
    """Return the splits of a Cityscapes folder, which have images and labels; an empty list if it is not one."""
    root, kind = cityscapes_tree(data)
    return [s for s in SPLITS[kind] if (root / IMAGES / s).is_dir() and (root / kind / s).is_dir()]


def image_paths(root: Path, split: str) -> Iterator[Path]:
    """The images of a split, labelled or not, city by city."""
    yield from sorted((root / IMAGES / split).glob(f"*/*{IMAGE_SUFFIX}"))


def _read_label(path: Path) -> np.ndarray:
    label = read_mask(path)
    if path.name.endswith("_labelTrainIds.png"):
        return label
    outside = (label > LARGEST_LABEL_ID) & (label != IGNORE)
    if outside.any():
        what = f"ids above {LARGEST_LABEL_ID} in a labelIds mask: {describe_counts(label[outside])}"
        raise SpoiltFile("id out of range", path, what, "Restore the file from the original data set.")
    return _TO_TRAIN_ID[label]


def _listing(root: Path, kind: str, split: str) -> Listing:
    pairs, bare = [], []
    labels = set((root / kind / split).glob(f"*/*_{kind}_label*Ids.png"))
    for image in image_paths(root, split):
        stem = image.name.removesuffix(IMAGE_SUFFIX)
        folder = root / kind / split / image.parent.name
        choices = [folder / f"{stem}_{kind}_{ids}.png" for ids in ("labelTrainIds", "labelIds")]
        found = [path for path in choices if path in labels]
        labels.difference_update(choices)
        if found:
            pairs.append(Pair(stem, image, found[0]))
        else:
            bare.append(image)
    return Listing(tuple(pairs), tuple(bare), tuple(sorted(labels)))


class Cityscapes(PairedDataset):
    """One split of Cityscapes, 2048x1024, 19 classes.

    Args:
        data: the root, which holds ``leftImg8bit/SPLIT/CITY`` and ``gtFine/SPLIT/CITY``, for fine labels;
            ``ROOT/gtCoarse`` for coarse ones.
        split: fine: "train" (2,975 images), "val" (500) or "test" (1,525, whose published labels are all ignore);
            coarse: "train", "train_extra" (19,998) or "val".

    Raises:
        FeathersegError: not this layout, no such split, images without labels or labels without images.
    """

    def __init__(self, data: str | Path, split: str, *, lenient: bool = False) -> None:
        root, self.kind = cityscapes_tree(data)
        known = cityscapes_splits(Path(data))
        if split not in known:
            there = ", ".join(known) or f"none (it needs {IMAGES}/ and {self.kind}/)"
            raise FeathersegError(f"{data}: no Cityscapes split {split!r}. There are: {there}.")
        super().__init__(root, split, CITYSCAPES19, _listing(root, self.kind, split), _read_label, lenient=lenient)
        if self.kind == COARSE:
            self.name = self.name.replace(CITYSCAPES19.name, f"{CITYSCAPES19.name}-coarse")

    @property
    def labels_withheld(self) -> bool:
        """Whether the published labels are all ignore by design, since the benchmark server keeps the true ones."""
        return self.kind == FINE and self.split == "test"

    def shortfall(self) -> Shortfall | None:
        """How the split's cities and number of images differ from the official ones; files are listed, not read."""
        official, count = CITIES[self.split], COUNTS[self.split]
        there = {pair.image.parent.name for pair in self.listing.pairs}
        missing, others = [city for city in official if city not in there], sorted(there - set(official))
        found = []
        if missing:
            found.append(f"no images of {', '.join(missing)}")
        if others:
            more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
            found.append(f"images of {', '.join(others[:MOST_NAMED])}{more}, of no city of this split")
        if len(self) != count:
            found.append(f"{len(self):,} images instead of {count:,}")
        if not found:
            return None
        mark = f"{len(self)} of {count} images"
        if missing or others:
            mark = f"{len(official) - len(missing)} of {len(official)} cities"
            mark += f" and {len(others)} other{'s' * (len(others) > 1)}" if others else ""
        return Shortfall(
            mark,
            f"this is not the official split {self.split!r} of Cityscapes, and figures on it are no others' figures: "
            f"{'; '.join(found)}. `featherseg check cityscapes ROOT` says how to complete it.",
        )

    def label_ids_path(self, index: int) -> Path:
        """Where the ``labelIds`` file of a sample belongs, whether it is there or not."""
        pair = self.listing.pairs[index]
        return pair.mask.with_name(f"{pair.key}_{self.kind}_labelIds.png")

    def instance_path(self, index: int) -> Path:
        """Where the ``instanceIds`` file of a sample belongs, whether it is there or not."""
        pair = self.listing.pairs[index]
        return pair.mask.with_name(f"{pair.key}_{self.kind}_instanceIds.png")

    def read_instances(self, index: int, shape: tuple[int, ...] | None = None) -> np.ndarray | None:
        """Decode the instances of one sample.

        Args:
            shape: (H, W) of the sample's label, where it is known.

        Returns:
            integers of two bytes or more ``[H, W]``: class x 1000 + number for an instance, the label id for anything
            else; None where the file is absent.

        Raises:
            SpoiltFile: the file is spoilt, of another size, or holds an id beyond those of all classes.
        """
        path = self.instance_path(index)
        if not path.exists():
            return None
        instances = read_wide_mask(path)
        if instances.dtype.itemsize == 1:
            instances = instances.astype(np.uint16)  # as a mask without instances may be stored
        mend = "Restore the file from the original data set."
        if shape is not None and instances.shape != shape:
            what = (
                f"the instances are {instances.shape[1]} x {instances.shape[0]} pixels, but their label is "
                f"{shape[1]} x {shape[0]}"
            )
            raise SpoiltFile("size mismatch", path, what, mend)
        if int(instances.max()) > LARGEST_INSTANCE_ID:
            outside = instances[instances > LARGEST_INSTANCE_ID]
            what = f"ids above {LARGEST_INSTANCE_ID} in an instanceIds mask: {describe_counts(outside)}"
            raise SpoiltFile("id out of range", path, what, mend)
        return instances

    def check_instances(self, index: int, label: np.ndarray) -> None:
        """Hold the instances of one sample, where there are any, against its label uint8 ``[H, W]``.

        Raises:
            SpoiltFile: as :meth:`read_instances`; or the two give a pixel different classes.
        """
        instances = self.read_instances(index, label.shape)
        if instances is None:
            return
        classes = np.where(instances >= 1000, instances // 1000, instances).astype(np.uint8)
        other = int(np.count_nonzero(_TO_TRAIN_ID[classes] != label))
        if other:
            what = f"gives {other:,} pixels another class than {self.listing.pairs[index].mask.name}"
            raise SpoiltFile("instances disagree", self.instance_path(index), what, "Restore both from the original.")
