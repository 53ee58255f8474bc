"""Milliseconds of non-maximum suppression of 10,000 boxes, in cases that are easy and hard for it.

``few`` are boxes of 4 pixels over a KITTI frame, of which hardly any is dropped; ``cars`` are as a detector gives them
before its cut at the best 1000; ``all`` overlap one another and one is kept; ``large`` keep a few. Beside them, for the
boxes of ``cars``, the greedy algorithm in numpy, one kept box at a time, which gives the same. All on one core, one
process, interleaved rounds; medians.
"""

import time
from collections.abc import Callable

import numpy as np

from featherseg.detection.nms import nms
from featherseg.randomness import generator
from measuring import finish, interleaved, load_average, parser, summary

FRAME = (375, 1242)


def boxes(name: str, count: int) -> np.ndarray:
    """float32 ``[count, 4]``."""
    random = generator(0, f"nms {name}")
    wide, tall = {"few": (4, 4), "cars": (60, 40), "large": (300, 200), "all": (100, 80)}[name]
    place = random.random((count, 2)) * (FRAME[1], FRAME[0])
    if name == "all":
        place = np.array([FRAME[1] / 2, FRAME[0] / 2]) + random.normal(0, 1, (count, 2))
    spread = 0.02 if name == "all" else 0.3
    half = np.array([wide, tall]) * np.exp(random.normal(0, spread, (count, 2))) / 2
    return np.concatenate([place - half, place + half], 1).astype(np.float32)


def plain(corners: np.ndarray, scores: np.ndarray, iou: float = 0.5) -> np.ndarray:
    """The greedy algorithm in numpy's vectors."""
    corners = corners.astype(np.float64)
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    order, kept = np.argsort(-scores, kind="stable"), []
    while order.size:
        best, order = order[0], order[1:]
        kept.append(best)
        low = np.maximum(corners[best, :2], corners[order, :2])
        high = np.minimum(corners[best, 2:], corners[order, 2:])
        shared = np.clip(high - low, 0, None).prod(1)
        order = order[shared <= iou * (area[best] + area[order] - shared)]
    return np.array(kept)


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--boxes", type=int, default=10_000, help="how many (default 10000)")
    arguments.add_argument("--rounds", type=int, default=15, help="rounds (default 15)")
    options = arguments.parse_args()
    load = load_average()
    scores = generator(0, "nms scores").random(options.boxes).astype(np.float32)
    cases = {name: boxes(name, options.boxes) for name in ("few", "cars", "large", "all")}
    kept = {name: len(nms(corners, scores)) for name, corners in cases.items()}
    if not np.array_equal(nms(cases["cars"], scores), plain(cases["cars"], scores)):
        raise SystemExit("the compiled suppression and the plain one disagree")
    contestants: dict[str, Callable[[], float]] = {
        name: lambda corners=corners: timed(lambda: nms(corners, scores)) for name, corners in cases.items()
    }
    contestants["cars, plain numpy"] = lambda: timed(lambda: plain(cases["cars"], scores))
    taken = {name: summary(values) for name, values in interleaved(contestants, options.rounds, print).items()}
    figures: dict[str, object] = {f"{name}, ms": values for name, values in taken.items()}
    figures |= {f"{name}, kept": count for name, count in kept.items()}
    figures["plain numpy / compiled"] = round(taken["cars, plain numpy"]["median"] / taken["cars"]["median"], 1)
    finish("nms", f"{options.boxes} boxes/IoU 0.5, median of rounds", figures, options.card, load, seeds=[0])


if __name__ == "__main__":
    main()
