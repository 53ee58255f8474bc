"""``featherseg eval`` of a detector, or of KITTI's result files: average precision by KITTI's rules."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from featherseg.cli.common import PROGRAM, note, print_json, progress_bar, table
from featherseg.cli.evaluation_card import write_evaluation_card
from featherseg.errors import FeathersegError, nearest

if TYPE_CHECKING:
    from featherseg.data.boxes import JudgedDataset
    from featherseg.deploy.detector import Detector

LEVELS = ("easy", "moderate", "hard")


def evaluate_detection(
    weights: str,
    data: str,
    split: str,
    *,
    count: int | None,
    command: list[str],
    card: Path | None,
    precision: str,
    device: str,
    as_json: bool,
) -> None:
    """Judge a detector; the arguments are those of the command."""
    from featherseg.deploy.loading import load_detector
    from featherseg.detection.evaluation import evaluate_detector
    from featherseg.files import file_sha256
    from featherseg.models.shipped import weights_path

    detector = load_detector(weights, device=device)
    dataset = open_for(detector, data, split, count)
    told = detector.metadata.get("trained_on")
    trained_on = str(told).removeprefix(f"{dataset.name}/") if told else "unknown"
    with progress_bar("judging") as advance:
        judged = evaluate_detector(
            detector.network, dataset, trained_on=trained_on, precision=precision, progress=advance
        )
    figures = judged.figures()
    about = {
        "weights": weights,
        "weights_sha256": file_sha256(weights_path(weights)),
        "data_fingerprint": dataset.fingerprint(),
        "precision": precision,
    }
    if figures["score"] is None:
        note(f"note: {data} has nothing to be found at moderate difficulty in {split!r}")
    if card is not None:
        write_evaluation_card(
            card,
            command,
            detector.name,
            detector.metadata,
            figures,
            sha256=about["weights_sha256"],
            fingerprint=about["data_fingerprint"],
            precision=precision,
        )
        note(f"card: {card}")
    if as_json:
        print_json(figures | about)
    else:
        typer.echo(readable_boxes(figures))


def evaluate_results(folder: Path, data: str, split: str, *, command: list[str], card: Path | None) -> dict[str, Any]:
    """Judge result files in KITTI's format, one an image, and write their card, if asked for.

    Returns:
        the figures, with what they are of.

    Raises:
        FeathersegError: no such split or folder, a file that is missing, strange or spoilt, or classes that are not
            judged, or not together.
    """
    from hashlib import sha256

    from featherseg.cards import card as make_card
    from featherseg.cards import write_card
    from featherseg.data.kitti import Kitti
    from featherseg.data.kitti_results import read_results
    from featherseg.detection.evaluation import evaluate_files, target_of_files, unjudged
    from featherseg.files import file_sha256
    from featherseg.metrics.kitti import VEHICLE

    check_split(data, split)
    listed = Kitti(data, split, target=VEHICLE.name)  # the widest target, until the files tell theirs
    if listed.labels_withheld:
        raise FeathersegError(
            f"{data}: the labels of {split!r} are not public. Judge another split, or ask KITTI's server."
        )
    keys = [listed.key(index) for index in range(len(listed))]
    detections = read_results(folder, keys)
    target = target_of_files(detections, str(folder))
    dataset = listed if target == VEHICLE.name else Kitti(data, split, target=target)
    for name, count in unjudged(detections).items():
        note(f"note: {count:,} detections are of {name}, which is not judged")
    figures = evaluate_files(dataset, detections).figures()
    digest = sha256("".join(file_sha256(folder / f"{key}.txt") for key in keys).encode()).hexdigest()
    about: dict[str, Any] = {
        "submission": folder.resolve().name,
        "submission_sha256": digest,
        "data_fingerprint": dataset.fingerprint(),
    }
    if card is not None:
        shown = {key: value for key, value in figures.items() if key != "protocol"}
        origin = f"result files in {about['submission']}"
        made = make_card(
            "evaluation",
            protocol=figures["protocol"],
            figures=shown,
            command=[PROGRAM, *command],
            seeds=[],
            weights=origin,
            **about,
        )
        note(f"card: {write_card(card, made)}")
    return figures | about


def check_split(data: str, split: str) -> None:
    """Refuse a split that ``data`` does not have.

    Raises:
        FeathersegError: so it is, or no such data.
    """
    from featherseg.data.detection_sources import detection_splits

    known = detection_splits(data)
    if split not in known:
        choices = " or ".join(f"--split {name}" for name in known)
        raise FeathersegError(f"{data}: no split {split!r}{nearest(split, known)}. Choose {choices}.")


def open_for(detector: "Detector", data: str, split: str, count: int | None) -> "JudgedDataset":
    """The split of ``data``, with the classes that ``detector`` finds; of generated scenes ``count``.

    Raises:
        FeathersegError: no such data or split, or the data knows no such class.
    """
    from featherseg.data.detection_sources import open_detection

    check_split(data, split)
    if len(detector.classes) != 1:
        raise FeathersegError(
            f"{detector.name}: finds {len(detector.classes)} classes ({', '.join(detector.classes)}), and {data} is "
            "judged for one, Car or vehicle. Give weights of such a detector."
        )
    recipe = (detector.metadata.get("recipe") or {}).get("data") or {}
    sizes: dict[str, Any] = {}
    if data == "streets" and recipe.get("source") == "streets" and recipe.get("size"):
        sizes = {"size": tuple(recipe["size"]), "seed": recipe.get("seed", 0)}
    return open_detection(data, split, target=detector.classes[0], count=count, **sizes)


def readable_boxes(figures: dict[str, Any]) -> str:
    """The figures as a table for a person; all are percent."""
    lines = [figures["protocol"], ""]
    for name, levels in figures["ap"].items():
        rows = [[kind, *(levels[key][level] for level in LEVELS)] for kind, key in (("AP40", "ap40"), ("AP11", "ap11"))]
        lines += [table([name, *LEVELS], rows), ""]
        lines.append(f"{'boxes to be found':<28}" + ", ".join(f"{n:,} {at}" for at, n in levels["boxes"].items()))
    map11 = figures["map11"]
    lines.append(f"{'mAP, mean of AP11':<28}" + ("–" if map11 is None else f"{map11:.2f} %"))
    return "\n".join([*lines, f"{'detections':<28}{figures['detections']:,}", f"{'images':<28}{figures['images']:,}"])
