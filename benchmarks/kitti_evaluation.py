"""What the official judgement of KITTI's validation split costs: 3,769 frames, three classes, three difficulties.

- Frames are drawn: objects, their sizes and their difficulties about as often as in KITTI's labels (5 objects of the
  judged classes and 2 DontCare regions a frame), and detections as a detector leaves them after suppression: some on
  each object, more or less well placed, and 100 a frame in all.
- Reading is measured too: the result files of the benchmark's format are written once and read in each round.
- One core; processor time is told beside the time that passes.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from featherseg.data.kitti_results import read_results, result_text
from featherseg.metrics.kitti import CAR, CYCLIST, PEDESTRIAN, KittiDetections, KittiTruth, kitti_scores
from featherseg.randomness import generator
from measuring import finish, interleaved, load_average, parser, summary

WIDTH, HEIGHT = 1242.0, 375.0
NAMES = ("Car", "Van", "Truck", "Pedestrian", "Cyclist", "DontCare")
SHARES = (0.53, 0.05, 0.02, 0.08, 0.03, 0.29)
"""About those of the labels of KITTI's training images."""


def boxes_of(random: np.random.Generator, names: np.ndarray) -> np.ndarray:
    """Boxes ``[N, 4]`` inside the image, many small and few large, upright for people."""
    heights = np.clip(random.lognormal(3.9, 0.6, len(names)), 12, 300)
    ratios = np.where(np.isin(names, ("Pedestrian", "Cyclist")), 0.5, 1.6) * random.uniform(0.7, 1.5, len(names))
    x = random.uniform(0, WIDTH - 20, len(names))
    y = random.uniform(120, 220, len(names))
    corners = np.stack([x, y, np.minimum(x + heights * ratios, WIDTH), np.minimum(y + heights, HEIGHT)], 1)
    return corners.round(2)


def frame(index: int, detections: int) -> tuple[KittiTruth, KittiDetections]:
    """One frame's labels, and what a fair detector might find in it."""
    random = generator(0, "kitti-benchmark", index)
    count = int(random.poisson(7)) + 1
    names = random.choice(NAMES, count, p=SHARES)
    boxes = boxes_of(random, names)
    truth = KittiTruth(
        tuple(names.tolist()),
        boxes,
        np.where(random.random(count) < 0.8, 0.0, random.random(count)),
        random.choice(4, count, p=(0.5, 0.25, 0.2, 0.05)),
    )
    times = np.repeat(np.flatnonzero(names != "DontCare"), 3)
    jitter = random.normal(0, 0.06, (len(times), 4)) * np.tile(boxes[times, 2:] - boxes[times, :2], 2)
    near = boxes[times] + jitter
    others = random.choice(("Car", "Pedestrian", "Cyclist"), max(0, detections - len(times)), p=(0.7, 0.2, 0.1))
    found = np.concatenate([near, boxes_of(random, others)])[:detections]
    labels = np.concatenate([np.where(np.isin(names, ("Van", "Truck")), "Car", names)[times], others])[:detections]
    scores = np.concatenate([random.beta(4, 2, len(times)), random.beta(1, 6, len(others))])[:detections]
    return truth, KittiDetections(tuple(labels.tolist()), found, scores)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--frames", type=int, default=3769, help="frames (default 3769, KITTI's val)")
    arguments.add_argument("--detections", type=int, default=100, help="detections a frame (default 100)")
    arguments.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    options = arguments.parse_args()
    if options.frames < 1 or options.detections < 0:
        arguments.error("--frames must be at least 1, and --detections not negative")
    load = load_average()
    frames = [frame(index, options.detections) for index in range(options.frames)]
    truths, detections = [truth for truth, _ in frames], [found for _, found in frames]
    with tempfile.TemporaryDirectory() as name:
        keys = [f"{index:06d}" for index in range(options.frames)]
        for key, found in zip(keys, detections, strict=True):
            (Path(name) / f"{key}.txt").write_text(result_text(found))
        work = {
            "reading result files": lambda: read_results(Path(name), keys),
            "Car": lambda: kitti_scores(truths, detections, CAR),
            "three classes": lambda: [kitti_scores(truths, detections, j) for j in (CAR, PEDESTRIAN, CYCLIST)],
        }
        processor: dict[str, list[float]] = {key: [] for key in work}

        def timed(key: str) -> float:
            began, busy = time.perf_counter(), time.process_time()
            work[key]()
            processor[key].append(time.process_time() - busy)
            return time.perf_counter() - began

        passed = interleaved({key: partial(timed, key) for key in work}, options.rounds, print)
    scores = kitti_scores(truths, detections, CAR)
    finish(
        "kitti evaluation",
        f"{options.frames} drawn frames, {options.detections} detections each, one core",
        {
            **{f"{key}, s": summary(values) for key, values in passed.items()},
            **{f"{key}, processor s": summary(values) for key, values in processor.items()},
            "cars to be found (hard)": scores["hard"].ground_truths,
            "AP40 of Car": {level: round(score.ap40, 3) for level, score in scores.items()},
        },
        options.card,
        load,
        seeds=[0],
    )


if __name__ == "__main__":
    main()
