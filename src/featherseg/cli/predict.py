"""``featherseg predict``: label images with trained weights."""

from pathlib import Path
from typing import Annotated

import typer

from featherseg.cli.common import WRONG_USE, Device, note, progress_bar


def predict(
    images: Annotated[list[str], typer.Argument(help="Image files, folders (with all below) or quoted globs.")],
    weights: Annotated[str, typer.Option("--weights", "-w", help="A weights file, or the name of shipped weights.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    overlay: Annotated[bool, typer.Option(help="Write the coloured pictures too.")] = True,
    device: Device = "cpu",
) -> None:
    """Label images with trained weights.

    Writes NAME.png (class ids), NAME_overlay.png (with legend) and NAME.json (shares of the classes). An image that
    cannot be read is reported, the others are done, and the exit code is 2.

    \b
    Example:
      featherseg predict photo.jpg holiday/ --weights fassd_net_l2.camvid -o predicted
    """
    from featherseg.deploy.files import predict_files
    from featherseg.deploy.segmenter import load

    segmenter = load(weights, device=device)
    with progress_bar("predicting") as advance:
        outcome = predict_files(
            segmenter,
            images,
            output,
            overlay=overlay,
            problem=lambda line: note(f"featherseg: error: {line}"),
            progress=advance,
        )
    plural = "" if outcome.written == 1 else "s"
    typer.echo(f"{outcome.written} image{plural} labelled in {output}")
    if outcome.failed:
        raise typer.Exit(WRONG_USE)
