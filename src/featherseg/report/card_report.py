"""The page of many cards: accuracy against speed, IoU of each class, pictures, exports, and the cards behind it all.

Choices worth knowing:

- Every figure on it is a card's. A card whose figures are not those of its kind is named with the reason and left out,
  as is a file that is no card; cards of kinds that the page has no place for are counted.
- Pictures and predictions come as arguments, since only the caller knows how to predict; they are reduced, and kept as
  JPEG (photographs) and PNG (labels, whose colours must stay what they are).
"""

import io
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from featherseg.data.colour import colourise
from featherseg.data.labels import IGNORE, LabelSet
from featherseg.errors import FeathersegError
from featherseg.files import file_sha256
from featherseg.models.shipped import list_weights, weights_path
from featherseg.report import plots
from featherseg.report.card_files import CardFile, Gathered, Skipped
from featherseg.report.class_scores import ablation_table, class_blocks, read_scores
from featherseg.report.html import Block, Cell, Heading, Picture, Row, Section, Table, Text, Value, page
from featherseg.report.quantized_table import quantized_table, read_quantized
from featherseg.report.speed_points import SPEED_KINDS, counted, read_judged, read_published, read_timings
from featherseg.report.speed_section import speed_blocks
from featherseg.report.support_table import read_support, support_blocks

PANEL_WIDTH = 480
"""Columns of an embedded picture at most: three stand side by side on the page, on a sharp screen."""

Read = TypeVar("Read")


@dataclass(frozen=True, eq=False)
class Strip:
    """One image with its truth and what networks say: uint8 RGB ``[H, W, 3]``, and ids ``[H, W]`` by network."""

    key: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class CardReport:
    """A page, and the files that it does not use, with their reasons."""

    html: str
    skipped: tuple[Skipped, ...]


def card_report(
    gathered: Gathered, *, strips: Sequence[Strip] = (), labels: LabelSet | None = None, title: str = "Result cards"
) -> CardReport:
    """Make the page.

    Args:
        gathered: the cards.
        strips: pictures to show.
        labels: classes and colours of the strips; needed where there are any.
        title: of the page.
    """
    reading = _Reading()
    timings = [one for found in reading.each(gathered.of_kind(*SPEED_KINDS), read_timings) for one in found]
    evaluations = gathered.of_kind("evaluation")
    scores = reading.each([*evaluations, *gathered.of_kind("training")], read_scores)
    judged = reading.each(reading.sound(evaluations), read_judged)
    published = [one for found in reading.each(gathered.of_kind("complexity"), read_published) for one in found]
    ablations = [file for file, _ in reading.pairs(gathered.of_kind("ablation"), ablation_table)]
    support = reading.pairs(gathered.of_kind("support"), read_support)
    quantized = reading.each(gathered.of_kind("quantization"), read_quantized)
    exports = support_blocks(support)
    if quantized:
        exports += [Heading("Quantised to int8"), quantized_table(quantized)]

    used = [file for file in gathered.cards if file in reading.used]
    rest = [file for file in gathered.cards if file not in reading.used and file not in reading.spoilt]
    skipped = (*gathered.skipped, *(Skipped(file.name, reason) for file, reason in reading.spoilt.items()))
    accuracies = [one for one in judged if one]
    digests = _digests({one.weights for one in accuracies})
    speeds = speed_blocks(timings, accuracies, published, digests)
    classes = class_blocks([one for one in scores if one], ablations, digests)
    sections = [
        Section("Accuracy against speed", speeds),
        Section("IoU of each class", classes or [Text("No card here holds the IoU of classes.")]),
        Section("What they see", _pictures(strips, labels)),
        Section("Exports", exports),
        Section("The cards", _cards(used, rest, skipped)),
    ]
    return CardReport(page(title, sections), skipped)


class _Reading:
    """Cards read by their kinds' readers: which were of use, and which are spoilt and why."""

    def __init__(self) -> None:
        self.used: list[CardFile] = []
        self.spoilt: dict[CardFile, str] = {}

    def pairs(self, files: Sequence[CardFile], reader: Callable[[CardFile], Read]) -> list[tuple[CardFile, Read]]:
        found = []
        for file in files:
            try:
                read = reader(file)
            except FeathersegError as error:
                self.spoilt[file] = str(error)
                continue
            if read:
                self.used.append(file)
                found.append((file, read))
        return found

    def each(self, files: Sequence[CardFile], reader: Callable[[CardFile], Read]) -> list[Read]:
        return [read for _, read in self.pairs(files, reader)]

    def sound(self, files: Sequence[CardFile]) -> list[CardFile]:
        return [file for file in files if file not in self.spoilt]


def _digests(names: Set[str]) -> dict[str, str]:
    """SHA-256 of those of the weights that come with the package."""
    return {name: file_sha256(weights_path(name)) for name in sorted(names & set(list_weights()))}


def _pictures(strips: Sequence[Strip], labels: LabelSet | None) -> list[Block]:
    if not strips or labels is None:
        return [Text("No pictures were asked for: `featherseg report --weights NAME --data PATH` shows some.")]
    blocks: list[Block] = [
        Text("Pixels without a truth are black in the label; agreement is the share of the others."),
        Picture(plots.legend(labels), "Classes and their colours"),
    ]
    for strip in strips:
        truth = strip.truth
        pictures = [
            Picture(_photograph(strip.image), "image"),
            Picture(_label_picture(truth, labels), "label"),
        ]
        judged = truth != IGNORE
        for name, prediction in strip.predictions.items():
            share = 100 * float((prediction == truth)[judged].mean()) if judged.any() else None
            said = "" if share is None else f", {share:.1f} % agree"
            pictures.append(Picture(_label_picture(prediction, labels), f"{name}{said}"))
        blocks += [Heading(strip.key), Row(pictures)]
    return blocks


def _photograph(image: np.ndarray) -> bytes:
    from PIL import Image

    picture = Image.fromarray(image)
    if picture.width > PANEL_WIDTH:
        height = max(1, round(picture.height * PANEL_WIDTH / picture.width))
        picture = picture.resize((PANEL_WIDTH, height), Image.Resampling.BOX)
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=85)
    return target.getvalue()


def _label_picture(ids: np.ndarray, labels: LabelSet) -> bytes:
    """Every so many pixels, painted: mixing the colours of two classes would show a third."""
    width = min(ids.shape[1], PANEL_WIDTH)
    height = max(1, round(ids.shape[0] * width / ids.shape[1]))
    rows, columns = (
        ((np.arange(count) + 0.5) * (side / count)).astype(int)
        for count, side in ((height, ids.shape[0]), (width, ids.shape[1]))
    )
    return plots.image_png(colourise(ids[np.ix_(rows, columns)], labels.palette))


def _cards(used: Sequence[CardFile], rest: Sequence[CardFile], skipped: Sequence[Skipped]) -> list[Block]:
    blocks: list[Block] = []
    if used:
        rows: list[list[Value]] = [
            [
                file.name,
                file.kind,
                file.protocol,
                _commit(file.card),
                file.date[:10],
                Cell(file.card["command"], mood="code"),
            ]
            for file in used
        ]
        blocks.append(Table(["card", "kind", "protocol", "commit", "date", "command"], rows))
        machines = dict.fromkeys(_machine(file.card) for file in used)
        blocks.append(Text(f"Machines of these cards: {'; '.join(machines)}."))
    if rest:
        kinds = ", ".join(sorted({file.kind for file in rest}))
        blocks.append(Text(f"Cards that this page has no place for: {len(rest)} ({kinds})."))
    if skipped:
        why: list[list[Value]] = [[one.name, one.reason] for one in skipped]
        blocks += [Heading("Left out"), Table(["file", "reason"], why)]
    return blocks


def _commit(card: Mapping[str, Any]) -> str | None:
    commit = card["commit"]
    if not commit or not commit.get("hash"):
        return None
    return str(commit["hash"])[:10] + (", changed" if commit.get("dirty") else "")


def _machine(card: Mapping[str, Any]) -> str:
    machine = card["machine"]
    told = [machine.get("cpu"), counted(machine.get("cores"), "core"), machine.get("gpu"), machine.get("os")]
    versions = [f"{name} {machine[name]}" for name in ("python", "torch", "numpy") if machine.get(name)]
    return ", ".join(str(one) for one in [*told, *versions] if one)
