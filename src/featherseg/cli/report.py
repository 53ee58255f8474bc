"""``featherseg report``: make a run's page again."""

from pathlib import Path
from typing import Annotated

import typer


def report(run: Annotated[Path, typer.Argument(help="The run's folder.")]) -> None:
    """Make the page of a run again.

    RUN/report.html shows loss curve, IoU of each class, confusion, and pictures of what it sees.

    \b
    Example:
      featherseg report runs/camvid_fassd_net_l2
    """
    from featherseg.cli.run_report import write_run_report

    typer.echo(str(write_run_report(run)))
