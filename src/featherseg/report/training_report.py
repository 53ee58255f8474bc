"""The page of one training run: what was run, how it went, how it scores, and where it is wrong.

Choices worth knowing:

- It reads what a run leaves in its folder (``log.jsonl``, ``card.json``); the confusion counts and example images come
  as arguments, since only the caller knows how to predict.
- A run without a card yet, or with a torn last line in its log (the machine stopped in mid-write), still gets its page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from featherseg.cards import read_card
from featherseg.data.labels import LabelSet
from featherseg.errors import FeathersegError
from featherseg.files import atomic_write
from featherseg.metrics.calibration import CalibrationCounts
from featherseg.metrics.confusion import AbsentRule, class_accuracy, iou_per_class
from featherseg.report import plots
from featherseg.report.html import Block, Code, Picture, Section, Table, Text, page
from featherseg.training.log import read_log

# Twice what the page shows, for sharp screens; full-size street scenes would make a page of many megabytes.
MAX_STRIP_WIDTH = 1920


@dataclass(frozen=True)
class Example:
    """One judged image: uint8 RGB ``[H, W, 3]``, truth and prediction uint8 ids ``[H, W]``, and its name."""

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    key: str


def training_report(
    folder: str | Path,
    *,
    labels: LabelSet,
    confusion: np.ndarray | None = None,
    class_counts: np.ndarray | None = None,
    calibration: CalibrationCounts | None = None,
    examples: Sequence[Example] = (),
    card: Mapping[str, Any] | None = None,
    facts: Mapping[str, str | int | float] | None = None,
    next_steps: str | None = None,
    title: str | None = None,
    absent: AbsentRule = "both",
    output: str | Path | None = None,
) -> Path:
    """Write the page of a run.

    Args:
        folder: of the run; ``log.jsonl`` and ``card.json`` in it are used where they exist.
        labels: classes and colours.
        confusion: int64 ``[K, K]`` of the judged split.
        class_counts: int64 ``[K, K]`` of a classifier: images of each class by what they were taken for.
        calibration: counts of the judged split.
        examples: images to show with truth, prediction and disagreement.
        card: the result card, if it is not ``card.json`` of the folder.
        facts: what was run (recipe, model, wall time), shown first, in this order.
        next_steps: commands to type next.
        title: of the page; the folder's name, if None.
        absent: the absent-class rule of the IoU bars, as the card's figures have it.
        output: the file to write; ``report.html`` in the folder, if None.

    Returns:
        The path of the page.

    Raises:
        FeathersegError: the folder does not exist, its card is spoilt, or the page cannot be saved.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FeathersegError(f"{folder}: there is no such run folder. Give the folder that the training wrote.")
    if card is None and (folder / "card.json").exists():
        card = read_card(folder / "card.json")
    rows = read_log(folder)

    sections: list[Section] = []
    if card is not None:
        sections.append(Section("Figures", _figures(card)))
    if rows:
        sections.append(Section("Training", [Picture(plots.loss_curve(rows), "Loss over the steps of the training")]))
    if examples:
        sections.append(Section("What it sees", _examples(examples, labels)))
    if confusion is not None:
        sections.append(Section("Classes", _classes(confusion, labels, absent)))
    if class_counts is not None:
        sections.append(Section("Classes", _image_classes(class_counts, labels)))
    if calibration is not None:
        picture = plots.reliability_diagram(calibration)
        sections.append(Section("Calibration", [Picture(picture, "How often it is right at each confidence")]))
    sections.append(Section("What was run", _what_was_run(card, facts or {})))
    if next_steps:
        sections.append(Section("What to type next", [Code(next_steps)]))
    return atomic_write(output or folder / "report.html", page(title or folder.resolve().name, sections))


def _figures(card: Mapping[str, Any]) -> list[Block]:
    figures, paper = card["figures"], card["paper"] or {}
    rows: list[list[str | int | float | None]] = []
    for name, value in figures.items():
        if name.endswith("_interval") or isinstance(value, dict | list):
            continue
        interval = figures.get(f"{name}_interval")
        shown = None if not interval else " … ".join(_number(bound) or "–" for bound in interval)
        rows.append([name, _number(value), shown, _number(paper.get(name))])
    blocks: list[Block] = [Table(["figure", "ours", "interval", "paper"], rows), Text(f"Protocol: {card['protocol']}")]
    if card["notes"]:
        blocks.append(Text(card["notes"]))
    return blocks


def _examples(examples: Sequence[Example], labels: LabelSet) -> list[Block]:
    blocks: list[Block] = [
        Text(
            "From left to right: image, truth, prediction, disagreement (red: wrong; dark blue: not judged). "
            "Pixels without a truth are black in the second panel."
        ),
        Picture(plots.legend(labels), "Classes and their colours"),
    ]
    for example in examples:
        strip = plots.strip(example.image, example.truth, example.prediction, labels.palette)
        blocks.append(Picture(plots.image_png(strip, MAX_STRIP_WIDTH), example.key))
    return blocks


def _classes(confusion: np.ndarray, labels: LabelSet, absent: AbsentRule) -> list[Block]:
    iou, recall = iou_per_class(confusion, absent), class_accuracy(confusion)
    pixels = confusion.sum(axis=1)
    rows = [
        [name, _number(100 * iou[i]), _number(100 * recall[i]), f"{int(pixels[i]):,}"]
        for i, name in enumerate(labels.classes)
    ]
    return [
        Picture(plots.iou_bars(labels, iou), "Intersection over union of each class"),
        Table(["class", "IoU, %", "recall, %", "true pixels"], rows),
        Picture(plots.confusion_picture(confusion, labels), "Which class is taken for which"),
    ]


def _image_classes(counts: np.ndarray, labels: LabelSet) -> list[Block]:
    """A classifier's classes, the worst first, and what their images are taken for."""
    totals, right = counts.sum(axis=1), np.diag(counts)
    wrong = counts - np.diag(right)
    shares = np.divide(right, totals, out=np.full(len(totals), np.nan), where=totals > 0)
    rows: list[list[str | int | float | None]] = []
    for k in np.argsort(shares, kind="stable"):  # absent classes, NaN, last
        mistaken = [labels.classes[j] for j in np.argsort(-wrong[k], kind="stable")[:3] if wrong[k, j]]
        rows.append([labels.classes[k], _number(100 * shares[k]), f"{int(totals[k]):,}", ", ".join(mistaken) or None])
    return [Table(["class", "right, %", "images", "most often taken for"], rows)]


def _what_was_run(card: Mapping[str, Any] | None, facts: Mapping[str, str | int | float]) -> list[Block]:
    rows: list[list[str | int | float | None]] = [[name, str(value)] for name, value in facts.items()]
    if card is not None:
        commit = card["commit"]
        changed = " with changes" if commit and commit.get("dirty") else ""
        rows += [
            ["date", card["date"]],
            ["featherseg", card["version"]],
            ["commit", f"{commit.get('hash')}{changed}" if commit else None],
            ["seeds", ", ".join(str(seed) for seed in card["seeds"]) or None],
            ["data fingerprint", card["data_fingerprint"]],
            *([name, None if value is None else str(value)] for name, value in card["machine"].items()),
        ]
    blocks: list[Block] = [Table(["", ""], rows)] if rows else [Text("No card was written yet.")]
    if card is not None:
        blocks.append(Code(card["command"]))
    return blocks


def _number(value: Any) -> str | None:
    """A figure as the page shows it: two decimals, thousands apart; None for a figure that does not exist."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None
    if isinstance(value, bool | str):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"
