"""``featherseg complexity``: what a network costs before it is run."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featherseg.bench.paper_tables import PAPERS
from featherseg.cli.common import PROGRAM, Json, note, parse_size, print_json, table
from featherseg.errors import FeathersegError

if TYPE_CHECKING:
    from featherseg.bench.complexity import Complexity

CLASSES = 19

# What a row of costs may hold, and its heading; columns that the paper does not fill are left out, but for our own.
COST_COLUMNS = {"gflops": "GFLOPs", "parameters": "parameters", "megabytes": "MB"}
OWN_COLUMNS = {"mmacs": "MMACs"}
PAPER_COLUMNS = {"miou": "mIoU", "milliseconds": "ms", "top1": "top-1", "map": "mAP", "seconds": "s"}


def complexity(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL_OR_WEIGHTS", help="A network by its name, or weights of one.")
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="key=value", help="Its arguments, for example output_stride=8.")
    ] = None,
    size: Annotated[str, typer.Option(help="Image, height x width.")] = "1024x2048",
    classes: Annotated[
        int | None, typer.Option(help=f"Number of classes; {CLASSES}, or those of the weights, if not given.")
    ] = None,
    paper: Annotated[str | None, typer.Option(help=f"Print a paper's tables beside ours: {', '.join(PAPERS)}.")] = None,
    card: Annotated[Path | None, typer.Option(help="With --paper: write a result card (JSON) here.")] = None,
    as_json: Json = False,
) -> None:
    """Count what a network costs.

    Parameters and multiply-accumulates, without running it; --paper prints a paper's tables beside ours.

    \b
    Example:
      featherseg complexity fassd_net_l2 --size 360x480 --classes 11
      featherseg complexity shufflenet_v2_dpc output_stride=8 decoder=true
      featherseg complexity fassd_net_l2.camvid --size 360x480
      featherseg complexity --paper fassd_net --json
    """
    if (model is None) == (paper is None):
        raise FeathersegError("name one network or one --paper: featherseg complexity fassd_net, or --paper fassd_net.")
    if card is not None and paper is None:
        raise FeathersegError("--card goes with --paper. For one network use --json.")
    if paper is not None:
        _paper(paper, as_json, card, [PROGRAM, *context.obj])
        return
    assert model is not None
    from featherseg.bench.complexity import count
    from featherseg.models.registry import list_models
    from featherseg.recipes.reading import apply_override

    if model not in list_models() and ("." in model or Path(model).exists()):
        unwanted = [*(arguments or ()), *([] if classes is None else ["--classes"])]
        counted = _of_weights(model, parse_size(size), unwanted).to_dict()
    else:
        chosen: dict[str, Any] = {}
        for argument in arguments or ():
            apply_override(chosen, argument)
        counted = count(model, parse_size(size), CLASSES if classes is None else classes, **chosen).to_dict()
    if as_json:
        print_json(counted)
        return
    rows = [
        ["parameters", f"{counted['parameters']:,}"],
        ["parameters deployed", f"{counted['parameters_deployed']:,}"],
        ["convolution MACs", f"{counted['conv_macs']:,}"],
        ["matrix MACs", f"{counted['matrix_macs']:,}"],
        ["GFLOPs, as early-2020 papers count", f"{counted['count'] / 1e9:.2f}"],
        ["weights, MB", f"{counted['weight_bytes'] / 1e6:.2f}"],
        ["written by all layers, MB", f"{counted['activation_bytes'] / 1e6:.1f}"],
    ]
    title = " ".join([model, *(arguments or ())])
    typer.echo(table([title, f"{counted['size'][0]}x{counted['size'][1]}, {counted['num_classes']} classes"], rows))


def _of_weights(weights: str, size: tuple[int, int], unwanted: list[str]) -> "Complexity":
    """What the network of a weights file costs, under the name that was given.

    Raises:
        FeathersegError: there are no such weights, or something is asked for that they tell themselves.
    """
    from featherseg.bench.complexity import count
    from featherseg.models.shipped import weights_path
    from featherseg.models.weights import build_network, read_weights

    path = weights_path(weights)
    if unwanted:
        raise FeathersegError(
            f"{weights}: weights have their arguments and classes, so that {', '.join(unwanted)} cannot be set. Leave "
            "that out, or name the network."
        )
    found = read_weights(path)
    counted = count(build_network(found, str(path)), size)
    return replace(counted, model=weights, num_classes=found.metadata["num_classes"])


def _paper(paper: str, as_json: bool, card_file: Path | None, command: list[str]) -> None:
    from featherseg.bench.paper_tables import paper_table

    rows = paper_table(paper)
    costs = [row for row in rows if "output_size" not in row["paper"]]
    if card_file is not None:
        from featherseg.cards import card, write_card

        sizes = "+".join(size for size in dict.fromkeys(map(_size, costs)) if size != "–")
        classes = "+".join(dict.fromkeys(str(row.get("classes", 19)) for row in costs if row["model"]))
        protocol = f"{paper}/{sizes}/{classes} classes/counted on the meta device"
        made = card(
            "complexity", protocol=protocol, figures={"rows": rows}, command=command, seeds=[], data_fingerprint=None
        )
        note(f"card: {write_card(card_file, made)}")
    if as_json:
        print_json(rows)
        return
    head, columns = ["row", "table"], [[row["row"] for row in costs], [row["table"] for row in costs]]
    if any("size" in row for row in costs):
        head.append("image")
        columns.append([_size(row) for row in costs])
    for key, heading in COST_COLUMNS.items():
        printed, counted = ([row[side].get(key, "–") for row in costs] for side in ("paper", "ours"))
        if any(value != "–" for value in printed):
            head += [f"{heading}, paper", "ours"]
            columns += [printed, counted]
    for key, heading in OWN_COLUMNS.items():
        counted = [row["ours"].get(key, "–") for row in costs]
        if any(value != "–" for value in counted):
            head.append(f"{heading}, ours")
            columns.append(counted)
    for key, heading in PAPER_COLUMNS.items():
        printed = [row["paper"].get(key, "–") for row in costs]
        if any(isinstance(value, float) for value in printed):
            head.append(f"{heading}, paper")
            columns.append(printed)
    typer.echo(table(head, [list(cells) for cells in zip(*columns, strict=True)]))
    stages = [
        [row["row"], row["table"], _shape(row["paper"]["output_size"]), _shape(row["ours"]["output_size"])]
        for row in rows
        if "output_size" in row["paper"]
    ]
    if stages:
        typer.echo("\n" + table(["stage", "table", "output, paper", "output, ours"], stages))


def _size(row: dict[str, Any]) -> str:
    size = row.get("size", (1024, 2048))
    return "–" if size is None else f"{size[0]}x{size[1]}"


def _shape(size: list[Any]) -> str:
    return " x ".join("?" if length is None else str(length) for length in size)
