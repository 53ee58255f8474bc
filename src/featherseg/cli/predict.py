"""``featherseg predict``: label images with trained weights."""

from pathlib import Path
from typing import Annotated

import typer

from featherseg.cli.common import WRONG_USE, Device, note, progress_bar
from featherseg.errors import FeathersegError


def predict(
    images: Annotated[list[str], typer.Argument(help="Image files, folders (with all below) or quoted globs.")],
    weights: Annotated[str, typer.Option("--weights", "-w", help="A weights file, or the name of shipped weights.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    overlay: Annotated[bool, typer.Option(help="Write the coloured pictures too.")] = True,
    submission: Annotated[
        str | None, typer.Option(help="Write what a benchmark server takes instead: cityscapes.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="With --submission: the split of a Cityscapes root, test if not given.")
    ] = None,
    device: Device = "cpu",
) -> None:
    """Label images with trained weights.

    Writes NAME.png (class ids), NAME_overlay.png (with legend) and NAME.json (shares of the classes). An image that
    cannot be read is reported, the others are done, and the exit code is 2.

    With --submission cityscapes, IMAGES is a Cityscapes root or images named as in Cityscapes, and label ids alone are
    written, one PNG an image.

    \b
    Example:
      featherseg predict photo.jpg holiday/ --weights fassd_net_l2.camvid -o predicted
      featherseg predict path/to/cityscapes -w mine.safetensors -o submission --submission cityscapes
    """
    from featherseg.deploy.files import predict_files
    from featherseg.deploy.segmenter import load

    if submission is not None:
        _submit(images, weights, output, submission, split or "test", device)
        return
    if split is not None:
        raise FeathersegError("--split goes with --submission. To label the images of one split, name their folder.")
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


def _submit(images: list[str], weights: str, output: Path, benchmark: str, split: str, device: str) -> None:
    if benchmark != "cityscapes":
        raise FeathersegError(f"--submission {benchmark!r} is not known. There is: cityscapes.")
    from featherseg.deploy.cityscapes_submission import write_submission
    from featherseg.deploy.segmenter import load

    segmenter = load(weights, device=device)
    with progress_bar("predicting") as advance:
        outcome = write_submission(
            segmenter,
            images,
            output,
            split=split,
            problem=lambda line: note(f"featherseg: error: {line}"),
            progress=advance,
        )
    for doubt in outcome.doubts:
        note(f"note: {doubt}")
    plural = "" if outcome.written == 1 else "s"
    typer.echo(
        f"{outcome.written} label map{plural} in {output}; pack the folder's PNGs into an archive to submit them"
    )
    if outcome.failed:
        raise typer.Exit(WRONG_USE)
