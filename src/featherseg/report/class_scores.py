"""The IoU of each class, a table a protocol, with mean and spread where several seeds are there.

Choices worth knowing:

- Trainings that differ in nothing but their seed are one row: the mean, and the standard deviation of single runs. They
  do if their cards tell the same of everything (recipe, network, steps, precision, data) and name one seed each, all
  different. Cards of trainings hold the whole recipe, those of evaluations its name. Every other card is a row.
- Figures of two protocols, or of other classes, never stand in one table.
- Cards of ablations hold no classes; their means and spreads are tables of their own.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, TypeGuard

from featherseg.report.card_files import CardFile, is_number, mapping, mappings, number, text
from featherseg.report.html import Block, Cell, Heading, Table, Text, Value

PERCENT = 100
SEED = re.compile(r"[-_. ]?seed[-_= ]?\d+$")


@dataclass(frozen=True)
class Scores:
    """What one card says, in percent; None where a class is absent.

    Attributes:
        name: of the weights, or of the recipe that was trained.
        training: the recipe's name, without the seed that it may end in; None where it is not known.
        protocol: how it was judged.
        miou: the mean over classes.
        interval: of it, over images.
        iou: by class.
        seed: where there is one.
        sameness: equal for trainings that differ in their seed alone; None where that is not known.
        about: what tells it from others of the name.
        source: the card.
    """

    name: str
    training: str | None
    protocol: str
    miou: float | None
    interval: tuple[float, float] | None
    iou: Mapping[str, float | None]
    seed: int | None
    sameness: str | None
    about: str
    source: CardFile


def read_scores(file: CardFile) -> Scores | None:
    """The scores of an evaluation's or a training's card; None where it holds no IoU of classes.

    Raises:
        FeathersegError: the figures are not those of such a card.
    """
    card, figures = file.card, file.card["figures"]
    if figures.get("iou") is None:
        return None
    iou = mapping(figures, "iou")
    by_class = {name: number(iou, name) for name in iou}
    interval, seeds = figures.get("miou_interval"), card["seeds"]
    recipe = card.get("recipe")
    named = recipe.get("name") if isinstance(recipe, Mapping) else recipe
    training = SEED.sub("", str(named)) if named else None
    trained = file.kind == "training"
    return Scores(
        name=str(named or card.get("model") or "unnamed") if trained else text(card, "weights"),
        training=training,
        protocol=file.protocol,
        miou=number(figures, "score" if trained else "miou"),
        interval=(interval[0], interval[1]) if _numbers(interval) and len(interval) == 2 else None,
        iou=by_class,
        seed=seeds[0] if len(seeds) == 1 and isinstance(seeds[0], int) else None,
        sameness=_sameness(card, training) if training else None,
        about=_about(card, trained),
        source=file,
    )


def class_blocks(scores: Sequence[Scores], ablations: Sequence[CardFile], digests: Mapping[str, str]) -> list[Block]:
    """Tables by protocol, the best row first, and those of ablations.

    Args:
        scores: of any protocols.
        ablations: cards of ablations.
        digests: SHA-256 of the weights that come with the package, by name.

    Raises:
        FeathersegError: an ablation's figures are not those of such a card.
    """
    blocks: list[Block] = []
    tables: dict[tuple[str, tuple[str, ...]], list[Scores]] = {}
    for one in scores:
        tables.setdefault((one.protocol, tuple(one.iou)), []).append(one)
    for (protocol, classes), members in sorted(tables.items()):
        groups = sorted(grouped(members), key=lambda group: -(_mean([one.miou for one in group]) or 0.0))
        head = ["network", "", "seeds", "mIoU", "95 % interval over images", *classes, "card"]
        blocks += [Heading(protocol), Table(head, [_row(group, classes, digests) for group in groups])]
    if blocks:
        note = "IoU in percent, darker is higher; the sign ± precedes the standard deviation of single runs over seeds."
        blocks.insert(0, Text(note))
    for file in ablations:
        blocks += [Heading(f"{file.name}: {file.protocol}"), ablation_table(file)]
    return blocks


def grouped(scores: Sequence[Scores]) -> list[list[Scores]]:
    """Rows: trainings of several seeds together where nothing else tells them apart, all others by themselves."""
    by_training: dict[str, list[Scores]] = {}
    rows: list[list[Scores]] = []
    for one in scores:
        if one.sameness is None or one.seed is None:
            rows.append([one])
        else:
            by_training.setdefault(one.sameness, []).append(one)
    for group in by_training.values():
        together = len({one.seed for one in group}) == len(group)
        rows += [group] if together else [[one] for one in group]
    return rows


def ablation_table(file: CardFile) -> Table:
    """Mean, spread and every seed of each variant. Raises FeathersegError for figures of another kind."""
    rows: list[list[Value]] = []
    for variant, figures in mappings(file.card, "figures").items():
        for score in (name.removesuffix("_deviation") for name in figures if name.endswith("_deviation")):
            mean, spread = number(figures, score), number(figures, f"{score}_deviation")
            single = figures.get(f"{score}_seeds")
            shown = ", ".join(f"{value:.2f}" for value in single) if _numbers(single) else None
            rows.append([variant, score, _with_spread(mean, spread, 2), shown])
    return Table(["variant", "score, %", "mean ± deviation", "of each seed"], rows)


def _row(group: Sequence[Scores], classes: Sequence[str], digests: Mapping[str, str]) -> list[Value]:
    first, several = group[0], len(group) > 1
    ships = digests.get(first.name) is not None and digests[first.name] == first.source.card.get("weights_sha256")
    about = ", ".join(["ships with featherseg"] * ships + [first.about] * bool(first.about))
    interval = None if several or first.interval is None else "{:.1f} to {:.1f}".format(*first.interval)
    seeds = ", ".join(str(one.seed) for one in group if one.seed is not None) or None
    values = [_cell([one.iou[name] for one in group]) for name in classes]
    cards = ", ".join(one.source.name for one in group)
    name, about = (first.training, None) if several else (first.name, about or None)
    return [name, about, seeds, _cell([one.miou for one in group]), interval, *values, cards]


def _cell(values: Sequence[float | None]) -> Value:
    mean = _mean(values)
    if mean is None:
        return None
    known = [value for value in values if value is not None]
    spread = stdev(known) if len(known) > 1 else None
    return Cell(_with_spread(mean, spread, 1) or "", share=mean / PERCENT)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _with_spread(mean: float | None, spread: float | None, digits: int) -> str | None:
    if mean is None:
        return None
    return f"{mean:.{digits}f}" if spread is None else f"{mean:.{digits}f} ± {spread:.{digits}f}"


def _numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(map(is_number, values))


def _about(card: Mapping[str, Any], trained: bool) -> str:
    said = []
    balance, precision = card.get("balance"), card.get("precision")
    if isinstance(balance, Mapping):
        said.append(f"balanced on {str(balance.get('data', 'data')).rpartition('/')[2]}")
    if isinstance(precision, str) and precision != "fp32":
        said.append(precision)
    if isinstance(card.get("weights_sha256"), str):
        said.append(f"SHA-256 {card['weights_sha256'][:8]}")
    if trained and card.get("model"):
        said.append(str(card["model"]))
    return ", ".join(said)


def _sameness(card: Mapping[str, Any], training: str) -> str:
    """What a training was, but for its seed, as one text."""
    recipe = card["recipe"]
    if isinstance(recipe, Mapping):
        recipe = dict(recipe)
        if isinstance(recipe.get("train"), Mapping):
            recipe["train"] = {key: value for key, value in recipe["train"].items() if key != "seed"}
    else:
        recipe = {}
    told = [card["kind"], card["protocol"], recipe | {"name": training}, card["data_fingerprint"]]
    told += [card.get(key) for key in ("model", "arguments", "precision", "trained_steps")]
    return json.dumps([*told, bool(card.get("balance"))], sort_keys=True, default=str)
