"""``featherseg compare``: do two classifiers differ on the same images?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from featherseg.cli.common import PROGRAM, Card, Json, note, print_json, table
from featherseg.errors import FeathersegError


def compare(
    context: typer.Context,
    networks: Annotated[
        list[str],
        typer.Argument(metavar="[NAME=]FILE[,FILE]...", help="Predictions of a network; several of it with commas."),
    ],
    card: Card = None,
    as_json: Json = False,
) -> None:
    """Compare classifiers image by image.

    Takes what `featherseg eval --predictions` wrote, of the same images. The others are compared with the first:
    difference of top-1 with its 95 % interval (paired bootstrap over images), and for single trainings McNemar's exact
    test. Several files of a network, of several seeds, count with their mean.

    \b
    Example:
      featherseg compare first.json second.json
      featherseg compare v2=v2-seed0.json,v2-seed1.json pyramid=p-seed0.json,p-seed1.json --json
    """
    if len(networks) < 2:
        raise FeathersegError(f"{networks[0]}: one network alone is compared with nothing. Give two or more.")
    names, files = zip(*(parse_network(argument) for argument in networks), strict=True)
    rows, count, notes = compared(names, files)
    protocol = rows[0]["protocol"]
    about = {"protocol": protocol, "images": count, "against": names[0], "networks": rows}
    for line in notes:
        note(f"note: {line}")
    if card is not None:
        from featherseg.cards import card as make_card
        from featherseg.cards import write_card

        made = make_card(
            "comparison",
            protocol=protocol,
            figures={"images": count, "networks": rows},
            command=[PROGRAM, *context.obj],
            seeds=[0],
            data_fingerprint=None,
            notes=" ".join(f"{line}." for line in notes) or None,
            against=names[0],
        )
        note(f"card: {write_card(card, made)}")
    if as_json:
        print_json(about)
    else:
        typer.echo(readable(rows, count))


def parse_network(argument: str) -> tuple[str, list[str]]:
    """``"name=a.json,b.json"`` as its name and files; without a name, that of the first file.

    >>> parse_network("v2=a.json,b.json")
    ('v2', ['a.json', 'b.json'])
    >>> parse_network("runs/a.json")
    ('a', ['runs/a.json'])
    """
    name, separator, rest = argument.partition("=")
    files = [file for file in (rest if separator else argument).split(",") if file]
    if not files or (separator and not name):
        raise FeathersegError(f"{argument!r} names no predictions. Write FILE, NAME=FILE or NAME=FILE,FILE.")
    return (name if separator else Path(files[0]).stem), files


def compared(names: tuple[str, ...], files: tuple[list[str], ...]) -> tuple[list[dict[str, Any]], int, list[str]]:
    """A row a network, in percent, the first without differences; the number of images, and what a reader must know.

    Raises:
        FeathersegError: a file is unreadable, or of other images than the first.
    """
    from featherseg.classification.evaluation import shares_right
    from featherseg.metrics.classification import paired_difference

    shares, judged = shares_right(files)
    rows, notes = [], []
    for name, group, share in zip(names, judged, shares, strict=True):
        protocols = list(dict.fromkeys(one.protocol for one in group))
        row: dict[str, Any] = {"network": name, "trainings": len(group), "top1": round(100 * share.mean(), 4)}
        row["protocol"] = ", ".join(protocols)
        if protocols != [judged[0][0].protocol]:
            notes.append(f"{name} was judged by another protocol than {names[0]}: {row['protocol']}")
        if rows:
            found = paired_difference(shares[0], share)
            row |= {
                "difference": round(100 * found.difference, 4),
                "difference_interval": [round(100 * found.low, 4), round(100 * found.high, 4)],
                "only_first": found.only_first,
                "only_this": found.only_second,
                "mcnemar_p": found.p_value,
            }
        rows.append(row)
    return rows, len(judged[0][0].keys), notes


def readable(rows: list[dict[str, Any]], count: int) -> str:
    """The rows as a table for a person."""
    shown = []
    for row in rows:
        interval = row.get("difference_interval")
        p_value = row.get("mcnemar_p")
        shown.append(
            [
                row["network"],
                row["trainings"],
                row["top1"],
                row.get("difference"),
                f"{interval[0]:+.2f} to {interval[1]:+.2f}" if interval else "–",
                "–" if p_value is None else f"{p_value:.2g}",
            ]
        )
    head = ["network", "trainings", "top-1", f"against {rows[0]['network']}", "95 % interval", "McNemar p"]
    return f"{rows[0]['protocol']}, {count:,} images\n\n{table(head, shown)}"
