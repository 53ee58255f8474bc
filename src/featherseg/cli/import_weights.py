"""``featherseg import``: a foreign checkpoint becomes a weights file of ours."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from featherseg.errors import FeathersegError

if TYPE_CHECKING:
    from featherseg.data.labels import LabelSet


def import_weights(
    model: Annotated[str, typer.Argument(help="Name of the network.")],
    file: Annotated[Path, typer.Argument(help="The checkpoint: a PyTorch state dict or safetensors.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The weights file to write (.safetensors).")],
    classes_from: Annotated[
        str | None, typer.Option(help="Class names: a text file (one a line), weights, or a data set.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store kernels in half precision.")] = False,
) -> None:
    """Import a foreign checkpoint.

    Nothing of it is run, and every tensor must fit.

    \b
    Example:
      featherseg import fassd_net FASSDNet_19_cityscapes.pkl -o fassd_net.cityscapes.safetensors
    """
    from featherseg.deploy.segmenter import import_weights as read_checkpoint
    from featherseg.models.shipped import SUFFIX

    if output.suffix != SUFFIX:
        raise FeathersegError(f"-o {output}: weights are written as {SUFFIX}. Name it {output.stem}{SUFFIX}.")
    labels = read_classes(classes_from) if classes_from else None
    imported = read_checkpoint(model, file, labels=labels)
    imported.save(output, half=half)
    assert imported.import_report is not None
    for line in imported.import_report.lines():
        typer.echo(line)
    typer.echo(f"{model} with {len(imported.labels)} classes written to {output}")


def read_classes(source: str) -> "LabelSet":
    """The classes of a text file, of weights, or of a data set.

    Raises:
        FeathersegError: it is none of them.
    """
    from featherseg.data.headers import read_bytes
    from featherseg.data.labels import LabelSet
    from featherseg.data.palette import distinct_colours
    from featherseg.data.sources import available_splits, open_dataset
    from featherseg.deploy.segmenter import label_set_of
    from featherseg.models.shipped import SUFFIX, list_weights, weights_path
    from featherseg.models.weights import read_metadata

    path = Path(source)
    if path.suffix == ".txt":
        lines = read_bytes(path).decode("utf-8", "replace").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
        return LabelSet(path.stem, names, distinct_colours(len(names)))
    if path.suffix == SUFFIX or source in list_weights():
        file = weights_path(source)
        return label_set_of(read_metadata(file), str(file))
    return open_dataset(source, available_splits(source)[0], lenient=True).labels
