"""``featherseg check``: would this data spoil a training?"""

from pathlib import Path
from typing import Annotated, Any

import typer

from featherseg.cli.common import NOT_SO, Json, print_json, progress_bar

CLASS_LAYOUTS = ("classes", "caltech", "caltech101", "caltech256", "imagenet")
"""Names that ask for images in class folders, where recognising is not enough."""


def check(
    data: Annotated[str, typer.Argument(help="A folder, a YAML that describes one, or 'streets'.")],
    root: Annotated[
        str | None,
        typer.Argument(help="The folder, where DATA names what it must be (cityscapes, camvid, kitti, caltech)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a data set for faults.

    Reads every file and reports what would spoil a training; exit code 1 if anything would. Of Cityscapes it also says
    what is missing and where it is obtained. Images in class folders, with splits or without, are
    for classifiers, KITTI's object data for detectors.

    \b
    Example:
      featherseg check path/to/camvid
      featherseg check my-data.yaml --json
      featherseg check cityscapes path/to/cityscapes
      featherseg check path/to/caltech101
    """
    from featherseg.data import kitti_check

    if kitti_check.is_kitti(root or data, data if root else None):
        with progress_bar("reading") as advance:
            boxes = kitti_check.check_kitti(root or data, progress=advance)
        _tell(boxes.to_dict(), kitti_check.summary_lines(boxes), as_json)
        return
    if shows_classes(root or data, data if root else None):
        from featherseg.classification import check as classes

        with progress_bar("reading") as advance:
            found = classes.check_class_folders(root or data, progress=advance)
        _tell(found.to_dict(), classes.summary_lines(found), as_json)
        return
    from featherseg.data.check import check_dataset
    from featherseg.data.check_summary import summary_lines

    with progress_bar("reading") as advance:
        report = check_dataset(root or data, layout=data if root else None, progress=advance)
    _tell(report.to_dict(), summary_lines(report), as_json)


def shows_classes(data: str, layout: str | None) -> bool:
    """Whether ``data`` is images in class folders: named so, or recognised where no data with masks is."""
    from featherseg.classification.sources import is_classified
    from featherseg.data.sources import is_segmented

    if layout is not None:
        return layout.lower() in CLASS_LAYOUTS
    return Path(data).is_dir() and not is_segmented(data) and is_classified(data)


def _tell(report: dict[str, Any], lines: list[str], as_json: bool) -> None:
    if as_json:
        print_json(report)
    else:
        typer.echo("\n".join(lines))
    if not report["ok"]:
        raise typer.Exit(NOT_SO)
