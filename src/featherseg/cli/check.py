"""``featherseg check``: would this data spoil a training?"""

from typing import Annotated

import typer

from featherseg.cli.common import NOT_SO, Json, print_json, progress_bar


def check(
    data: Annotated[str, typer.Argument(help="A folder, a YAML that describes one, or 'streets'.")],
    root: Annotated[
        str | None, typer.Argument(help="The folder, where DATA names the data set it must be (cityscapes, camvid).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a data set for faults.

    Reads every file and reports what would spoil a training; exit code 1 if anything would. Of Cityscapes it also says
    what is missing and where it is obtained.

    \b
    Example:
      featherseg check path/to/camvid
      featherseg check my-data.yaml --json
      featherseg check cityscapes path/to/cityscapes
    """
    from featherseg.data.check import check_dataset
    from featherseg.data.check_summary import summary_lines

    with progress_bar("reading") as advance:
        report = check_dataset(root or data, layout=data if root else None, progress=advance)
    if as_json:
        print_json(report.to_dict())
    else:
        typer.echo("\n".join(summary_lines(report)))
    if not report.ok:
        raise typer.Exit(NOT_SO)
