"""What the official judgement of Cityscapes costs: plain IoU, IoU with instances, and cityscapesscripts in pure Python.

- Street scenes of 1024x2048 are written in Cityscapes' layout, and label maps beside them that are wrong along edges
  and in patches. All three read the same files, in interleaved rounds; cityscapesscripts is given the first ones only.
- Its Python evaluator is meant: the compiled one of its 2.3.0 cannot be built from its source archive. It uses one
  thread and ours as many as there are processors, so processor time is told beside the time that passes.
- The scores are held against each other before anything is timed.
- Memory is the process's high-water mark over a tenth of the images, and over all of them.
- How fast cityscapesscripts is depends on NumPy, whose ``unique`` sorts in older versions and hashes in newer ones.
"""

import copy
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from featherseg.data.cityscapes import Cityscapes
from featherseg.data.streets import Streets
from featherseg.data.streets.cityscapes_tree import cityscapes_scene
from featherseg.metrics.cityscapes import instance_counts
from featherseg.metrics.cityscapes_labels import CATEGORIES, LABEL_IDS, LABELS
from featherseg.randomness import generator
from featherseg.training.cityscapes_evaluation import CityscapesScores
from featherseg.training.cityscapes_files import judge_predictions
from measuring import finish, interleaved, load_average, parser, peak_mib, reset_peak, summary

SIZE = (1024, 2048)
FEWEST_INSTANCES = 15
"""Scenes with fewer are left out: Cordts et al. 2016 count 7.0 humans and 11.8 vehicles an image of Cityscapes."""


def prediction_of(ids: np.ndarray, index: int) -> np.ndarray:
    """Label ids that a network might have given: moved by some pixels, and whole patches of another class."""
    random = generator(0, "benchmark", index)
    rows, columns = (int(shift) for shift in random.integers(-4, 5, 2))
    predicted = np.roll(ids, (rows, columns), (0, 1))
    for _ in range(60):
        row, column, height, width = (int(v) for v in random.integers(0, (SIZE[0], SIZE[1], 120, 240)))
        predicted[row : row + height, column : column + width] = LABEL_IDS[int(random.integers(len(LABEL_IDS)))]
    predicted[~np.isin(predicted, LABEL_IDS)] = LABEL_IDS[0]
    return predicted


def busy_scenes(count: int) -> Iterator[int]:
    """The numbers of ``count`` scenes with many instances; scenes are the same at every size."""
    small = Streets("val", 100 * count, size=(SIZE[0] // 8, SIZE[1] // 8), seed=0)
    busy = (index for index in itertools.count() if len(small.scene_boxes(index)) >= FEWEST_INSTANCES)
    return itertools.islice(busy, count)


def write_files(root: Path, predictions: Path, images: int, scenes: int) -> float:
    """``images`` frames of val, of which ``scenes`` differ; the pictures are empty, since nothing reads them.

    Returns:
        instances of judged classes an image, on average.
    """
    folders = {kind: root / kind / "val" / "frankfurt" for kind in ("leftImg8bit", "gtFine")}
    for folder in (*folders.values(), predictions):
        folder.mkdir(parents=True)
    source = Streets("val", 100 * scenes, size=SIZE, seed=0)
    files: list[tuple[bytes, ...]] = []
    counts = []
    for index in busy_scenes(scenes):
        _, ids, instances = cityscapes_scene(source, index)
        counts.append(int(instance_counts(instances, ids).instances.sum()))
        pictures = (ids, instances, prediction_of(ids, index))
        files.append(tuple(cv2.imencode(".png", picture)[1].tobytes() for picture in pictures))
    for number in range(images):
        stem = f"frankfurt_{number:06d}_000019"
        label = folders["gtFine"] / f"{stem}_gtFine_"
        places = (f"{label}labelIds.png", f"{label}instanceIds.png", str(predictions / f"{stem}_pred.png"))
        for place, data in zip(places, files[number % scenes], strict=True):
            Path(place).write_bytes(data)
        (folders["leftImg8bit"] / f"{stem}_leftImg8bit.png").touch()
    return sum(counts) / len(counts)


def first(dataset: Cityscapes, count: int) -> Cityscapes:
    """The first ``count`` images of a split."""
    part = copy.copy(dataset)
    part.listing = replace(dataset.listing, pairs=dataset.listing.pairs[:count])
    return part


def predictions_of(dataset: Cityscapes, predictions: Path) -> Path:
    """A folder of the label maps of these images alone, since the judgement refuses others beside them."""
    folder = predictions.with_name(f"{predictions.name} of {len(dataset)}")
    folder.mkdir()
    for index in range(len(dataset)):
        name = f"{dataset.key(index)}_pred.png"
        os.link(predictions / name, folder / name)
    return folder


def official(dataset: Cityscapes, predictions: Path) -> dict[str, dict[str, float]]:
    """The scores of cityscapesscripts, by class and category."""
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as script

    # NumPy 2.4 removed the name, which version 2.3.0 of the scripts still uses.
    np.__dict__.setdefault("in1d", np.isin)
    vars(script.args).update(quiet=True, JSONOutput=False)
    truths = [str(dataset.label_ids_path(index)) for index in range(len(dataset))]
    guesses = [str(predictions / f"{dataset.key(index)}_pred.png") for index in range(len(dataset))]
    return script.evaluateImgLists(guesses, truths, script.args)


def hold_against(ours: CityscapesScores, theirs: dict[str, dict[str, float]]) -> float:
    """The greatest difference of any score.

    Raises:
        SystemExit: it is more than rounding, so that the times would be of different things.
    """
    ids = [label.name for label in LABELS]
    found = []
    for scores, names, key in (
        (ours.class_iou, ids, "classScores"),
        (ours.class_iiou, ids, "classInstScores"),
        (ours.category_iou, CATEGORIES, "categoryScores"),
        (ours.category_iiou, CATEGORIES, "categoryInstScores"),
    ):
        expected = np.array([theirs[key][name] for name in names])
        if (np.isnan(scores) != np.isnan(expected)).any():
            raise SystemExit(f"{key}: other scores exist than those of cityscapesscripts")
        found.append(float(np.nanmax(np.abs(scores - expected))))
    if max(found) > 1e-9:
        raise SystemExit(f"scores differ from those of cityscapesscripts by {max(found):.3g}")
    return max(found)


def judge_in_turn(
    judges: dict[str, tuple[int, Callable[[], object]]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds an image, passed and of the processor, of judges given with the number of their images."""
    processor: dict[str, list[float]] = {name: [] for name in judges}

    def timed(name: str) -> float:
        images, judge = judges[name]
        began, busy = time.perf_counter(), time.process_time()
        judge()
        processor[name].append(1000 * (time.process_time() - busy) / images)
        return 1000 * (time.perf_counter() - began) / images

    passed = interleaved({name: partial(timed, name) for name in judges}, rounds, print)
    return passed, processor


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=500, help="images of 1024x2048 (default 500)")
    arguments.add_argument("--scenes", type=int, default=50, help="how many of them differ (default 50)")
    arguments.add_argument("--official", type=int, default=20, help="images for cityscapesscripts (default 20)")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    options = arguments.parse_args()
    if options.images < 10 or not 1 <= options.official <= options.images:
        arguments.error("--images must be at least 10, and --official from 1 to --images")
    cv2.setNumThreads(1)
    load = load_average()
    with tempfile.TemporaryDirectory() as name:
        root, predictions = Path(name) / "cityscapes", Path(name) / "predictions"
        density = write_files(root, predictions, options.images, min(options.scenes, options.images))
        whole = Cityscapes(root, "val")
        few = first(whole, options.official)
        difference = hold_against(judge_predictions(few, predictions_of(few, predictions)), official(few, predictions))

        plain, ours, theirs = "plain IoU", "with instances", "cityscapesscripts"
        passed, processor = judge_in_turn(
            {
                plain: (len(whole), lambda: judge_predictions(whole, predictions, instances=False)),
                ours: (len(whole), lambda: judge_predictions(whole, predictions)),
                theirs: (len(few), lambda: official(few, predictions)),
            },
            options.rounds,
        )
        peaks = []
        tenth = first(whole, options.images // 10)
        for part, files in ((tenth, predictions_of(tenth, predictions)), (whole, predictions)):
            reset_peak()
            judge_predictions(part, files)
            peaks.append(peak_mib())
    figures: dict[str, object] = {}
    for kind, measured in (("", passed), ("processor ", processor)):
        times = {name: summary(values) for name, values in measured.items()}
        middle = {name: value["median"] for name, value in times.items()}
        figures |= {f"{name}, {kind}ms an image": value for name, value in times.items()}
        figures[f"{ours} / {plain}, {kind}time"] = round(middle[ours] / middle[plain], 3)
        figures[f"{theirs} / {ours}, {kind}time"] = round(middle[theirs] / middle[ours], 2)
    finish(
        "cityscapes evaluation",
        "label maps of 1024x2048 in PNG files, decoding included",
        {
            **figures,
            "greatest difference of a score": difference,
            "instances an image": round(density, 1),
            f"peak memory, {options.images // 10} images, MiB": round(peaks[0], 1),
            f"peak memory, {options.images} images, MiB": round(peaks[1], 1),
        },
        options.card,
        load,
        seeds=[0],
        images={"ours": options.images, "different": options.scenes, "cityscapesscripts": options.official},
    )


if __name__ == "__main__":
    main()
