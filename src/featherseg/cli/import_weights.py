"""``featherseg import``: a foreign checkpoint becomes a weights file of ours."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featherseg.errors import FeathersegError

if TYPE_CHECKING:
    from featherseg.data.labels import LabelSet
    from featherseg.models.import_report import ImportReport


def import_weights(
    model: Annotated[str, typer.Argument(help="Name of the network.")],
    file: Annotated[Path, typer.Argument(help="The checkpoint: a PyTorch state dict, safetensors, or a .npz.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Arguments of the network.")
    ] = None,
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The weights file to write (.safetensors).")],
    classes_from: Annotated[
        str | None, typer.Option(help="Class names: a text file (one a line), weights, or a data set.")
    ] = None,
    half: Annotated[bool, typer.Option("--half", help="Store kernels in half precision.")] = False,
) -> None:
    """Import a foreign checkpoint.

    Nothing of it is run, and every tensor must fit. A classifier's weights are an encoder for start.encoder, a
    detector's go on in a training with other classes by start.weights and start.carry=all_but_logits.

    \b
    Example:
      featherseg import fassd_net FASSDNet_19_cityscapes.pkl -o fassd_net.cityscapes.safetensors
      featherseg import shufflenet_v2_dpc weights.npz -o shufflenet_v2_dpc.cityscapes.safetensors
      featherseg import ssd300_vgg16 ssd300_vgg16_coco.pth --classes-from names.txt -o ssd300_vgg16.coco.safetensors
    """
    from featherseg.deploy.segmenter import import_weights as read_checkpoint
    from featherseg.models.registry import list_models
    from featherseg.models.shipped import SUFFIX
    from featherseg.recipes.reading import apply_override

    if output.suffix != SUFFIX:
        raise FeathersegError(f"-o {output}: weights are written as {SUFFIX}. Name it {output.stem}{SUFFIX}.")
    given: dict[str, Any] = {}
    for argument in arguments or ():
        apply_override(given, argument)
    for key in given.keys() & {"name", "file", "num_classes", "labels", "device"}:
        raise FeathersegError(f"{model}: {key} is no argument of the network. The file decides; leave it out.")
    labels = read_classes(classes_from) if classes_from else None
    task = next((task for task in ("classification", "detection") if model in list_models(task)), None)
    if task is not None:
        report, classes = import_unsegmenting(model, task, file, output, labels, given, half)
    else:
        imported = read_checkpoint(model, file, labels=labels, **given)
        imported.save(output, half=half)
        assert imported.import_report is not None
        report, classes = imported.import_report, len(imported.labels)
    for line in report.lines():
        typer.echo(line)
    typer.echo(f"{model} with {classes} classes written to {output}")


def import_unsegmenting(
    model: str, task: str, file: Path, output: Path, labels: "LabelSet | None", arguments: dict[str, Any], half: bool
) -> tuple["ImportReport", int]:
    """Write a classifier's or a detector's weights; the report, and the number of classes."""
    from featherseg.files import file_sha256
    from featherseg.models.importer import import_checkpoint
    from featherseg.models.weights import describe_network, missing_tensors, read_metadata, save_weights

    network, report = import_checkpoint(model, file, **arguments)
    missing = report.missing
    with suppress(FeathersegError):  # weights of ours that lack them have zeros in their place
        missing = missing or missing_tensors(read_metadata(file))
    state = network.state_dict()
    classes: int = state["fc.weight"].shape[0] if task == "classification" else network.num_classes  # type: ignore
    metadata = describe_network(network, model, classes, dict(report.arguments)) | {
        "task": task,
        "provenance": {"imported_from": file.name, "sha256": file_sha256(file), "missing": list(missing)},
    }
    if labels is not None:
        if len(labels) != classes:
            raise FeathersegError(
                f"{file}: gives {classes} classes, and {labels.name} has {len(labels)}. Name the classes it was "
                "trained with, or leave them out."
            )
        metadata |= {"classes": list(labels.classes)}
    save_weights(output, state, metadata, half=half)
    return report, classes


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
