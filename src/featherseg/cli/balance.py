"""``featherseg balance``: favour classes so that the mean IoU is greatest, by biases fitted on val."""

from pathlib import Path
from typing import Annotated

import typer

from featherseg.cli.common import NOT_SO, Data, Device, Json, Weights, note, print_json, progress_bar, table
from featherseg.errors import FeathersegError


def balance(
    weights: Weights,
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="The weights file to write (.safetensors).")],
    split: Annotated[str, typer.Option(help="Which split to fit on; never the one that is reported.")] = "val",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Balance the classes of trained weights.

    A network trained with cross-entropy misses rare classes more than the mean IoU can bear. One number a class, fitted
    on val, is added to its logits; it becomes part of the last layer, so that nothing gets slower. Each half of the
    images is judged with the numbers fitted on the other; where that gains nothing, nothing is written and the exit
    code is 1.

    \b
    Example:
      featherseg balance --weights runs/mine/weights.safetensors --data path/to/camvid -o mine.safetensors
    """
    from featherseg.cli.eval import compare_classes
    from featherseg.data.dataset import shortfall_of, split_name
    from featherseg.data.sources import available_splits, open_dataset
    from featherseg.deploy.segmenter import load
    from featherseg.errors import nearest
    from featherseg.models.shipped import SUFFIX
    from featherseg.models.weights import save_weights
    from featherseg.training.balance import add_to_logits, fit_balance, sample_pixels

    if output.suffix != SUFFIX:
        raise FeathersegError(f"-o {output}: weights are written as {SUFFIX}. Name it {output.stem}{SUFFIX}.")
    known = available_splits(data)
    if split not in known:
        choices = " or ".join(f"--split {name}" for name in known)
        raise FeathersegError(f"{data}: no split {split!r}{nearest(split, known)}. Choose {choices}.")
    segmenter = load(weights, device=device)
    if segmenter.metadata.get("balance"):
        raise FeathersegError(f"{weights}: is balanced already. Give the weights that it was made from.")
    dataset = open_dataset(data, split)
    compare_classes(segmenter, dataset)
    shortfall = shortfall_of(dataset)
    if shortfall:
        note(f"note: {data}: {shortfall.told}")
    if split == "test":
        note("note: what is fitted on test cannot be judged on test any more")
    with progress_bar("looking") as advance:
        sampled = sample_pixels(segmenter.network, dataset, progress=advance)
    note("fitting ...")
    fitted = fit_balance(sampled)
    gained = fitted.held_out_after > fitted.held_out_before
    about = fitted.to_dict() | {"data": f"{dataset.name}/{split_name(dataset)}", "written": gained}
    if gained:
        add_to_logits(segmenter.network, fitted.biases)
        state = {name: tensor.cpu() for name, tensor in segmenter.network.state_dict().items()}
        save_weights(output, state, segmenter.metadata | {"balance": about})
    if as_json:
        print_json(about | {"classes": list(segmenter.labels.classes)})
    else:
        rows = [[name, float(bias)] for name, bias in zip(segmenter.labels.classes, fitted.biases, strict=True)]
        typer.echo(table(["class", "bias"], rows))
        typer.echo(f"\nmIoU of the sampled pixels {fitted.before:.2f} % -> {fitted.after:.2f} %")
        typer.echo(f"each half by the other's biases {fitted.held_out_before:.2f} % -> {fitted.held_out_after:.2f} %")
        typer.echo(
            f"written to {output}" if gained else "nothing is gained on images that were not fitted: not written"
        )
    if not gained:
        raise typer.Exit(NOT_SO)
