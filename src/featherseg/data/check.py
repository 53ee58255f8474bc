"""Read every file of a data set and report what would spoil a training.

* Memory is constant but for a digest of 16 bytes an image: samples are streamed, of each kind of problem only the first
  few are kept and the rest are counted.
* Duplicates are found by the decoded pixels, so a picture saved again in another lossless format is found too; a
  picture that was scaled or compressed again is not.
* Errors spoil a training or its judgement (spoilt files, leakage between splits); warnings are worth a look.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from featherseg.data.cityscapes import Cityscapes
from featherseg.data.cityscapes_check import cityscapes_gaps, looks_like_cityscapes
from featherseg.data.coco import Coco
from featherseg.data.dataset import Sample, SegmentationDataset
from featherseg.data.findings import Findings, Problem, Twins, place_of
from featherseg.data.folder import find_yaml
from featherseg.data.headers import SpoiltFile
from featherseg.data.labels import IGNORE
from featherseg.data.pairs import PairedDataset
from featherseg.data.sources import available_splits, layout_names, named_layouts, open_dataset
from featherseg.errors import FeathersegError


@dataclass(frozen=True)
class ClassCount:
    """How often a class occurs over all splits; ``share`` is of the pixels that are judged, 0 to 1."""

    pixels: int
    share: float
    images: int


@dataclass(frozen=True)
class SplitCount:
    """One split: pairs found, pairs read without fault, sizes as "width x height" to images, classes to images."""

    images: int
    sound: int
    ignore_share: float
    sizes: dict[str, int]
    class_images: dict[str, int]


@dataclass(frozen=True)
class CheckReport:
    """What :func:`check_dataset` found. ``unlisted`` counts, by kind, the problems beyond those kept."""

    data: str
    name: str
    splits: dict[str, SplitCount]
    classes: dict[str, ClassCount]
    sizes: dict[str, int]
    ignore_share: float
    problems: tuple[Problem, ...]
    unlisted: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether nothing was found that would spoil a training."""
        return all(problem.level != "error" for problem in self.problems)

    def to_dict(self) -> dict:
        """The report as plain JSON types, ``ok`` first."""
        return {"ok": self.ok, **asdict(self), "problems": [asdict(problem) for problem in self.problems]}


@dataclass
class _Tally:
    """What is counted of one split while it is read."""

    sound: int = 0
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    images: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    sizes: Counter[str] = field(default_factory=Counter)

    def add(self, sample: Sample) -> np.ndarray:
        """Count a sample and return its own histogram of ids."""
        histogram = np.bincount(sample.label.ravel(), minlength=256)
        self.sound += 1
        self.pixels += histogram
        self.images += histogram > 0
        self.sizes[f"{sample.label.shape[1]}x{sample.label.shape[0]}"] += 1
        return histogram


def _examine(dataset: SegmentationDataset, index: int) -> tuple[Sample | None, list[SpoiltFile]]:
    if isinstance(dataset, Coco):
        return dataset.examine(index)
    if isinstance(dataset, PairedDataset):
        sample, faults = dataset.examine(index)
        if isinstance(dataset, Cityscapes) and sample is not None:
            try:
                dataset.check_instances(index, sample.label)
            except SpoiltFile as fault:
                return sample, [fault]
        return sample, faults
    return dataset.read(index), []


def _opener(
    data: str | Path, layout: str | None, findings: Findings
) -> tuple[list[str], Callable[[str], SegmentationDataset]]:
    """The splits of ``data`` and what opens one; what a Cityscapes tree lacks is noted on the way."""
    path = Path(data)
    known = named_layouts(layout) if layout else []
    if not known and not path.exists() and str(data) in layout_names():
        raise FeathersegError(f"{data}: which folder? Name it after the data set: featherseg check {data} FOLDER.")
    if known and not path.is_dir():
        raise FeathersegError(f"{data}: no such folder. Give the folder that holds {known[0].looks_like}.")
    cityscapes = Cityscapes in [item.open for item in known]
    gaps = list(cityscapes_gaps(path)) if cityscapes or (not known and _half_cityscapes(path)) else []
    for gap in gaps:
        findings.add(*gap)
    if known:
        chosen = next((item for item in known if item.splits(path)), known[0])
        splits = chosen.splits(path)
        if not splits and not gaps:
            what = f"not laid out as {chosen.name}"
            findings.add("error", "layout", data, what, f"It needs {chosen.looks_like}.")
        return splits, lambda split: chosen.open(path, split, lenient=True)
    nothing = any(gap.level == "error" and gap.kind == "missing package" for gap in gaps)
    return [] if nothing else available_splits(data), lambda split: open_dataset(data, split, lenient=True)


def _half_cityscapes(path: Path) -> bool:
    return path.is_dir() and find_yaml(path) is None and looks_like_cityscapes(path)


def _open_all(data: str | Path, layout: str | None, findings: Findings) -> list[SegmentationDataset]:
    datasets = []
    splits, opened = _opener(data, layout, findings)
    faults: dict[str, list[str]] = {}
    for split in splits:
        try:
            dataset = opened(split)
        except FeathersegError as error:
            faults.setdefault(str(error).removesuffix("."), []).append(split)
            continue
        datasets.append(dataset)
        if isinstance(dataset, Coco):
            for oddity in dataset.oddities():
                findings.add(*oddity)
        if isinstance(dataset, PairedDataset):
            for path in dataset.listing.images_without_mask:
                findings.add("error", "missing mask", path, "no mask belongs to this image", "Add it or remove both.")
            for path in dataset.listing.masks_without_image:
                findings.add("error", "missing image", path, "no image belongs to this mask", "Add it or remove both.")
        if len(dataset) == 0:
            findings.add("error", "empty split", split, "the split holds no pairs of image and mask", "Fill it.")
    for what, named in faults.items():  # one of the whole data set is the same in every split, and may hold a page
        findings.add("error", "split", ", ".join(named), what, "Mend it, then check again.")
    return datasets


def _check_split(dataset: SegmentationDataset, findings: Findings, twins: Twins, advance: Callable[[], None]) -> _Tally:
    tally = _Tally()
    withheld = isinstance(dataset, Cityscapes) and dataset.labels_withheld
    for index in range(len(dataset)):
        overlaps = twins.see_file(dataset, index)
        sample, faults = _examine(dataset, index)
        for fault in faults:
            findings.spoilt(fault)
        if sample is not None:
            histogram = tally.add(sample)
            if histogram[IGNORE] == sample.label.size and not withheld:
                what, mend = "every pixel of the mask is ignored", "Remove the pair: nothing can be learnt from it."
                findings.add("warning", "all ignored", place_of(dataset, index), what, mend)
            if not overlaps:
                twins.see_pixels(dataset, index, sample.image)
        advance()
    for number, name in enumerate(dataset.labels.classes):
        if tally.sound and not tally.images[number] and not withheld:
            mend = "It can be neither learnt from nor judged on this split: move images, or live with it."
            findings.add("warning", "absent class", dataset.split, f"class {name!r} occurs in no mask", mend)
    return tally


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def check_dataset(
    data: str | Path,
    *,
    layout: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    keep: int = 20,
) -> CheckReport:
    """Read every file of every split of ``data`` and report.

    Args:
        data: as :func:`~featherseg.data.sources.open_dataset` takes it.
        layout: the data set it must be ("cityscapes"); what is not laid out so is reported. None recognises it.
        progress: called with (pairs done, pairs in all) after each pair.
        keep: how many problems of each kind are listed, at least one; the others are counted.

    Raises:
        ValueError: ``keep`` is less than one.
        FeathersegError: ``data`` is not a data set that is recognised, or its YAML is at fault.
    """
    if keep < 1:
        raise ValueError("keep is at least 1")
    findings = Findings(keep)
    twins = Twins(findings)
    datasets = _open_all(data, layout, findings)
    total, done = sum(len(dataset) for dataset in datasets), 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    tallies = {dataset.split: _check_split(dataset, findings, twins, advance) for dataset in datasets}
    for (first, second), (count, example) in twins.shared_keys.items():
        what = f"{count} names occur in both splits, for example {example!r}, on different files"
        mend = "No matter if frames are numbered anew in each split; otherwise take them out of one."
        findings.add("warning", "shared names", f"{first} and {second}", what, mend)
    return _report(str(data), datasets, tallies, findings)


def _report(
    data: str, datasets: list[SegmentationDataset], tallies: dict[str, _Tally], findings: Findings
) -> CheckReport:
    names = datasets[0].labels.classes if datasets else ()
    pixels = sum((tally.pixels for tally in tallies.values()), np.zeros(256, np.int64))
    images = sum((tally.images for tally in tallies.values()), np.zeros(256, np.int64))
    judged = int(pixels[:IGNORE].sum())
    sizes: Counter[str] = Counter()
    for tally in tallies.values():
        sizes.update(tally.sizes)
    return CheckReport(
        data=data,
        name=datasets[0].name if datasets else data,
        splits={dataset.split: _split_count(dataset, tallies[dataset.split]) for dataset in datasets},
        classes={
            name: ClassCount(int(pixels[i]), _share(int(pixels[i]), judged), int(images[i]))
            for i, name in enumerate(names)
        },
        sizes=dict(sizes.most_common()),
        ignore_share=_share(int(pixels[IGNORE]), int(pixels.sum())),
        problems=findings.problems(),
        unlisted=findings.unlisted(),
    )


def _split_count(dataset: SegmentationDataset, tally: _Tally) -> SplitCount:
    return SplitCount(
        images=len(dataset),
        sound=tally.sound,
        ignore_share=_share(int(tally.pixels[IGNORE]), int(tally.pixels.sum())),
        sizes=dict(tally.sizes.most_common()),
        class_images={name: int(tally.images[i]) for i, name in enumerate(dataset.labels.classes)},
    )
