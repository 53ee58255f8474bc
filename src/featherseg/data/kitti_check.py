"""Read every file of KITTI's object data and report what would spoil the training or the judgement of a detector.

* Labels that do not read, boxes that leave their image, images without labels and splits without vehicles are errors;
  splits that are not the usual ones are warnings, since figures on them are not comparable.
* Of each label the first fault is told.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from featherseg.data.check_summary import problem_lines, sizes_line
from featherseg.data.findings import Findings, Problem, Twins
from featherseg.data.folder import find_yaml
from featherseg.data.kitti import IMAGES, LABELS, SETS, TRAINVAL, Kitti, kitti_splits
from featherseg.data.kitti_labels import KITTI_TYPES
from featherseg.data.pairs import image_files, some_names
from featherseg.errors import FeathersegError
from featherseg.metrics.kitti import VEHICLE

COUNTS = {"train": 3712, "val": 3769, "trainval": 7481, "test": 7518}
"""Images of the usual splits: KITTI's own, and the halves of Chen et al. 2015."""


@dataclass(frozen=True)
class TypeCount:
    """How often a type occurs over all splits: boxes, and images that have one."""

    boxes: int
    images: int


@dataclass(frozen=True)
class BoxSplitCount:
    """One split: images with labels, those read without fault, sizes as "width x height" to images, type to boxes."""

    images: int
    sound: int
    sizes: dict[str, int]
    class_boxes: dict[str, int]


@dataclass(frozen=True)
class BoxReport:
    """What :func:`check_kitti` found. ``unlisted`` counts, by kind, the problems beyond those kept."""

    data: str
    name: str
    splits: dict[str, BoxSplitCount]
    classes: dict[str, TypeCount]
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
    sizes: Counter[str] = field(default_factory=Counter)
    boxes: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)

    def add(self, image: np.ndarray, names: tuple[str, ...]) -> None:
        self.sound += 1
        self.sizes[f"{image.shape[1]}x{image.shape[0]}"] += 1
        self.boxes.update(names)
        self.images.update(set(names))


def is_kitti(data: str | Path, layout: str | None = None) -> bool:
    """Whether ``data`` is to be checked here: named so by ``layout``, or recognised where nothing describes it."""
    if layout is not None:
        return layout.lower() == "kitti"
    return Path(data).is_dir() and find_yaml(Path(data)) is None and bool(kitti_splits(data))


def check_kitti(data: str | Path, *, progress: Callable[[int, int], None] | None = None, keep: int = 20) -> BoxReport:
    """Read every image and label of every split.

    Args:
        data: the folder that holds ``training``.
        progress: called with (images done, images in all) after each image.
        keep: how many problems of each kind are listed; the others are counted.

    Raises:
        FeathersegError: there is no such folder.
    """
    root = Path(data)
    if not root.is_dir():
        raise FeathersegError(f"{data}: no such folder. Give the folder that holds training/{IMAGES}/.")
    findings = Findings(keep)
    twins = Twins(findings)
    splits = kitti_splits(root)
    if not splits:
        findings.add(
            "error", "layout", data, "not laid out as KITTI", f"It needs training/{IMAGES}/ and training/{LABELS}/."
        )
    datasets = _open_all(root, splits, findings)
    total, done = sum(len(dataset) for dataset in datasets), 0
    tallies = {}
    for dataset in datasets:
        tally = tallies[dataset.split] = _Tally()
        for index in range(len(dataset)):
            _check_image(dataset, index, tally, findings, twins)
            done += 1
            if progress is not None:
                progress(done, total)
        _check_types(dataset, tally, findings)
    _check_listing(root, datasets, findings)
    return _report(str(data), tallies, {dataset.split: len(dataset) for dataset in datasets}, findings)


def _open_all(root: Path, splits: list[str], findings: Findings) -> list[Kitti]:
    datasets = []
    for split in splits:
        try:
            dataset = Kitti(root, split, lenient=True)
        except FeathersegError as error:
            findings.add("error", "split", split, str(error).removesuffix("."), "Mend it, then check again.")
            continue
        datasets.append(dataset)
        for path in dataset.images_unlabelled:
            mend = f"Unpack {LABELS} again, or take the image out. An image without objects has an empty file."
            findings.add("error", "missing label", path, "no label belongs to this image", mend)
        for key in dataset.keys_without_image:
            mend = "Unpack the images again, or take the line out."
            findings.add("error", "missing image", root / SETS / f"{split}.txt", f"no image is called {key}", mend)
        if not len(dataset):
            findings.add("error", "empty split", split, "the split holds no images with labels", "Fill it.")
        elif len(dataset) != COUNTS[split]:
            what = f"{len(dataset):,} images with labels, where the usual split has {COUNTS[split]:,}"
            findings.add("warning", "other count", split, what, "Expect other figures than published ones.")
    return datasets


def _check_image(dataset: Kitti, index: int, tally: _Tally, findings: Findings, twins: Twins) -> None:
    overlaps = twins.see_file(dataset, index)
    sample, faults = dataset.examine(index)
    for fault in faults:
        findings.spoilt(fault)
    if sample is None:
        return
    names = () if dataset.labels_withheld else dataset.truth(index).names
    tally.add(sample.image, names)
    if not names and not dataset.labels_withheld:
        mend = "No matter if nothing is to be seen; else restore it from the original data set."
        findings.add("warning", "empty label", dataset.paths(index)[1], "the label lists no object", mend)
    if not overlaps:
        twins.see_pixels(dataset, index, sample.image)


def _check_types(dataset: Kitti, tally: _Tally, findings: Findings) -> None:
    if dataset.labels_withheld or not tally.sound:
        return
    if not any(tally.boxes[name] for name in VEHICLE.members):
        what = f"no {' or '.join(VEHICLE.members)} in any of its {tally.sound:,} sound images"
        findings.add("error", "no vehicle", dataset.split, what, "There is nothing to learn or to find: add images.")
    elif not tally.boxes["Car"]:
        findings.add(
            "warning", "no car", dataset.split, "no Car in any image", "Only the target 'vehicle' can be used."
        )


def _check_listing(root: Path, datasets: list[Kitti], findings: Findings) -> None:
    """Tell of images that no split has, of labels without image, and of splits that are missing."""
    if not datasets:
        return
    folder = root / "training"
    images = {path.stem for path in image_files(folder / IMAGES)}
    for path in sorted((folder / LABELS).glob("*.txt")):
        if path.stem not in images:
            findings.add("error", "missing image", path, "no image belongs to this label", "Add it or remove both.")
    known = {dataset.split for dataset in datasets}
    if TRAINVAL in known:
        what = f"no {SETS}/train.txt and {SETS}/val.txt, so there is no validation split"
        findings.add("warning", "no split", root, what, "Add the lists of Chen et al. 2015, or lists of your own.")
        return
    seen = {frame.key for dataset in datasets if not dataset.labels_withheld for frame in dataset.frames}
    unused = [root / "training" / IMAGES / key for key in sorted(images - seen)]
    if unused and {"train", "val"} <= known:
        what = f"{len(unused):,} images are in no split, or have no label: {some_names(unused, 2)}"
        findings.add("warning", "unused images", root / SETS, what, "List them, or leave them out.")


def _report(data: str, tallies: dict[str, _Tally], lengths: dict[str, int], findings: Findings) -> BoxReport:
    boxes = sum((tally.boxes for tally in tallies.values()), Counter())
    images = sum((tally.images for tally in tallies.values()), Counter())
    return BoxReport(
        data=data,
        name="kitti/mixed",
        splits={
            split: BoxSplitCount(
                images=lengths[split],
                sound=tally.sound,
                sizes=dict(tally.sizes.most_common()),
                class_boxes={name: tally.boxes[name] for name in KITTI_TYPES},
            )
            for split, tally in tallies.items()
        },
        classes={name: TypeCount(boxes[name], images[name]) for name in KITTI_TYPES},
        problems=findings.problems(),
        unlisted=findings.unlisted(),
    )


def summary_lines(report: BoxReport, *, each: int = 3) -> list[str]:
    """Return the report as lines of text: splits, types, problems (``each`` of every kind) and the verdict."""
    lines = [f"{report.data}: {report.name}", ""]
    width = max([len(name) for name in report.splits] + [8]) + 2
    lines.append(f"{'split':<{width}}{'images':>8}{'sound':>8}  sizes")
    for name, split in report.splits.items():
        lines.append(f"{name:<{width}}{split.images:>8}{split.sound:>8}  {sizes_line(split.sizes)}".rstrip())
    width = max(len(name) for name in report.classes) + 2
    heads = "".join(f"{name:>8}" for name in report.splits)
    lines += ["", f"{'type':<{width}}{'boxes':>8}{'images':>8}{heads}"]
    for name, count in report.classes.items():
        by_split = "".join(f"{split.class_boxes[name]:>8}" for split in report.splits.values())
        lines.append(f"{name:<{width}}{count.boxes:>8}{count.images:>8}{by_split}")
    lines += ["", *problem_lines(report.problems, report.unlisted, each)]
    verdict = "fit for training" if report.ok else "NOT fit for training: mend the errors above"
    return [*lines, f"{report.data}: {verdict}."]
