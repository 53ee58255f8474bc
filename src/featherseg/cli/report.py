"""``featherseg report``: the page of result cards, or that of one run."""

from pathlib import Path
from typing import Annotated

import typer

from featherseg.cli.common import note, progress_bar
from featherseg.errors import FeathersegError

CARDS = Path("results")
PAGE = Path("report.html")
REASONS_TOLD = 10


def report(
    given: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="CARDS_OR_RUN", help="Cards and folders of cards (results/, if none is named), or a run's folder."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page; report.html here, or in the run's folder.")
    ] = None,
    weights: Annotated[
        list[str] | None, typer.Option("--weights", "-w", help="Show what these label; once for each, with --data.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Pictures with labels: a folder, a YAML, 'streets'.")] = None,
    split: Annotated[str, typer.Option(help="With --data: which split.")] = "val",
    images: Annotated[int, typer.Option(help="With --data: so many pictures, spread over the split.")] = 3,
) -> None:
    """Make one self-contained HTML page of result cards, or the page of a run again.

    Of cards: accuracy against speed, with the papers' points; IoU of each class, with mean and spread over seeds;
    pictures with label and predictions, where --weights and --data are given; which network is exported to which
    runtime; and every card with its protocol, commit, date and command. Files that are no cards are named and left out.

    Of a run's folder (one with recipe.yaml): loss curve, IoU of each class, confusion, and pictures of what it sees.

    \b
    Example:
      featherseg report
      featherseg report results speed.json choice.json -o networks.html
      featherseg report results --weights fassd_net_l2.camvid --weights drbanet.camvid --data path/to/camvid
      featherseg report runs/camvid_fassd_net_l2
    """
    from featherseg.cli.run_report import RECIPE_FILE, write_run_report

    if (weights is None) != (data is None):
        raise FeathersegError("pictures need both --weights, which label them, and --data, which has them.")
    if images < 1:
        raise FeathersegError(f"--images {images} shows nothing. Give at least 1, or leave --data out.")
    if output is not None and (output.suffix.lower() not in (".html", ".htm") or output.is_dir()):
        raise FeathersegError(f"--output {output}: the page is one HTML file. Name it so, as in report.html.")
    if given is not None and len(given) == 1 and (given[0] / RECIPE_FILE).is_file():
        if weights is not None:
            raise FeathersegError("the page of a run shows its own pictures. Leave --weights and --data out.")
        typer.echo(str(write_run_report(given[0], output)))
        return
    if not given and not CARDS.is_dir():
        raise FeathersegError(
            f"there is no folder {CARDS}/ of cards here. Name cards or folders of them, or a run's folder; `featherseg "
            "eval`, `bench` and `choose` write cards with --card."
        )
    from featherseg.cli.report_strips import report_strips
    from featherseg.files import atomic_write
    from featherseg.report.card_files import gather_cards
    from featherseg.report.card_report import card_report

    gathered = gather_cards(given or [CARDS])
    strips, labels = [], None
    if weights is not None and data is not None:
        with progress_bar("labelling") as advance:
            strips, labels = report_strips(weights, data, split, images, advance)
    made = card_report(gathered, strips=strips, labels=labels)
    for one in made.skipped[:REASONS_TOLD]:
        note(f"note: left out {one.name}: {one.reason}")
    if len(made.skipped) > REASONS_TOLD:
        note(f"note: left out {len(made.skipped) - REASONS_TOLD} more files, which the page names")
    typer.echo(str(atomic_write(output or PAGE, made.html)))
