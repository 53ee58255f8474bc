"""``featherseg models``: what networks and weights there are."""

from typing import Annotated

import typer

from featherseg.cli.common import Json, print_json, table
from featherseg.errors import FeathersegError, nearest

TASKS = {"segmentation": 19, "classification": 1000, "detection": 1}
"""The number of classes that a task's networks are counted with."""


def models(
    task: Annotated[str, typer.Option(help="segmentation, classification or detection.")] = "segmentation",
    weights: Annotated[bool, typer.Option("--weights", help="List the weights that come with the package.")] = False,
    as_json: Json = False,
) -> None:
    """List networks, or shipped weights.

    Parameters are counted for 19 classes (1000 for classifiers, 1 for detectors).

    \b
    Example:
      featherseg models
      featherseg models --weights --json
    """
    if task not in TASKS:
        raise FeathersegError(f"no networks for a task {task!r}{nearest(task, TASKS)}. There are: {', '.join(TASKS)}.")
    if weights:
        _weights(as_json)
        return
    import torch

    from featherseg.models.registry import create_model, list_models

    rows = []
    for name in list_models(task):
        with torch.device("meta"):
            network = create_model(name, TASKS[task])
        rows.append({"model": name, "parameters": sum(parameter.numel() for parameter in network.parameters())})
    if as_json:
        print_json(rows)
    else:
        typer.echo(table(["model", "parameters"], [list(row.values()) for row in rows]))


def _weights(as_json: bool) -> None:
    from featherseg.models.shipped import list_weights, weights_path
    from featherseg.models.weights import read_metadata

    rows = []
    for name in list_weights():
        path = weights_path(name)
        metadata = read_metadata(path)
        rows.append(
            {
                "weights": name,
                "model": metadata["architecture"],
                "classes": metadata.get("num_classes"),
                "trained_on": metadata.get("trained_on"),
                "megabytes": round(path.stat().st_size / 1e6, 2),
            }
        )
    if as_json:
        print_json(rows)
    elif rows:
        typer.echo(table(list(rows[0]), [list(row.values()) for row in rows]))
    else:
        typer.echo("no weights come with this build; train some with: featherseg train RECIPE")
