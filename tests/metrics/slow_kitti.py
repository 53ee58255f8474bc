"""KITTI's 2D evaluation, written down rule by rule with nothing but loops: the oracle of the fast one.

It goes frame by frame and box by box with the flags the rules speak of (``outside``, ``ignored``, ``valid``), and
shares no code with the package.
"""

from featherseg.metrics.kitti import KittiDetections, KittiTruth

LEVELS = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.3), "hard": (25, 2, 0.5)}
CLASSES = {"car": ("van", 0.7), "pedestrian": ("person_sitting", 0.5), "cyclist": (None, 0.5)}


def shared_area(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def area(a: list[float]) -> float:
    return (a[2] - a[0]) * (a[3] - a[1])


def flags_of_truth(name: str, box: list[float], truncation: float, occlusion: int, wanted: str, level: str) -> str:
    height, most_hidden, most_cut = LEVELS[level]
    if name == wanted:
        hard_to_see = occlusion > most_hidden or truncation > most_cut or box[3] - box[1] < height
        return "ignored" if hard_to_see else "valid"
    return "ignored" if name == CLASSES[wanted][0] else "outside"


def flags_of_detection(name: str, box: list[float], wanted: str, level: str) -> str:
    if int(abs(box[3] - box[1])) < LEVELS[level][0]:
        return "ignored"
    return "valid" if name == wanted else "outside"


def judge_frame(truth: KittiTruth, found: KittiDetections, wanted: str, level: str, threshold: float | None):
    """Scores of what is found, and the numbers of right and wrong; the first pass has no threshold."""
    least = CLASSES[wanted][1]
    truths = truth.boxes.tolist()
    detections, scores = found.boxes.tolist(), found.scores.tolist()
    truth_names = [name.lower() for name in truth.names]
    states = [flags_of_detection(n.lower(), b, wanted, level) for n, b in zip(found.names, detections, strict=True)]
    usable = [s != "outside" and (threshold is None or v >= threshold) for s, v in zip(states, scores, strict=True)]
    taken = [False] * len(detections)
    hits = []
    for i, box in enumerate(truths):
        state = flags_of_truth(truth_names[i], box, float(truth.truncation[i]), int(truth.occlusion[i]), wanted, level)
        if state == "outside":
            continue
        best, best_score, best_overlap, holds_ignored = None, -10_000_000.0, 0.0, False
        for j, other in enumerate(detections):
            if not usable[j] or taken[j]:
                continue
            common = shared_area(box, other)
            overlap = common / (area(other) + area(box) - common) if common else 0.0
            if not overlap > least:
                continue
            if threshold is None:
                if scores[j] > best_score:
                    best, best_score = j, scores[j]
            elif states[j] == "valid":
                if holds_ignored or overlap > best_overlap:
                    best, best_overlap, holds_ignored = j, overlap, False
            elif best is None:
                best, holds_ignored = j, True
        if best is not None:
            taken[best] = True
            if state == "valid" and states[best] == "valid":
                hits.append(scores[best])
    wrong = 0
    for j, other in enumerate(detections):
        if not usable[j] or taken[j] or states[j] != "valid":
            continue
        regions = [b for n, b in zip(truth_names, truths, strict=True) if n == "dontcare"]
        if not any(shared_area(other, b) and shared_area(other, b) / area(other) > least for b in regions):
            wrong += 1
    return hits, wrong


def slow_precision(
    truths: list[KittiTruth], detections: list[KittiDetections], wanted: str, level: str
) -> tuple[list[float], int]:
    """The 41 monotone precisions and the number of ground truths of a class ("car") at a level ("easy")."""
    frames = list(zip(truths, detections, strict=True))
    total = 0
    for truth in truths:
        for i, name in enumerate(truth.names):
            box = truth.boxes[i].tolist()
            state = flags_of_truth(
                name.lower(), box, float(truth.truncation[i]), int(truth.occlusion[i]), wanted, level
            )
            total += state == "valid"
    scores = sorted((s for frame in frames for s in judge_frame(*frame, wanted, level, None)[0]), reverse=True)
    thresholds, wanted_recall = [], 0.0
    for i, score in enumerate(scores):
        recall = (i + 1) / total
        next_recall = (i + 2) / total if i + 1 < len(scores) else recall
        if next_recall - wanted_recall < wanted_recall - recall and i + 1 < len(scores):
            continue
        thresholds.append(score)
        wanted_recall += 1.0 / 40.0
    precision = [0.0] * 41
    for place, threshold in enumerate(thresholds):
        results = [judge_frame(*frame, wanted, level, threshold) for frame in frames]
        right, wrong = sum(len(hits) for hits, _ in results), sum(w for _, w in results)
        precision[place] = right / (right + wrong) if right + wrong else 0.0
    for place in range(41):
        precision[place] = max(precision[place:])
    return precision, total
