"""``featherseg quickstart``: the whole journey on procedural street scenes, with nothing to download.

Choices worth knowing:

- The training starts from the shipped CamVid weights, which have never seen the scenes it is judged on; without them it
  starts from nothing and scores lower. What it started from is printed.
- The test split, which nothing was chosen on, gives the figure; the pictures are of scenes that no split holds.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featherseg.cli.common import NOT_SO, PROGRAM, Overrides, progress_bar
from featherseg.cli.run_report import examples
from featherseg.cli.train import CARD_FILE, run_training
from featherseg.files import atomic_write

if TYPE_CHECKING:
    from featherseg.deploy.segmenter import Segmenter
    from featherseg.recipes.schema import Recipe
    from featherseg.training.evaluation import Evaluation

RECIPE = "quickstart"
START = "fassd_net_l2.camvid"
NEW_SCENES = 4


def quickstart(
    context: typer.Context,
    output: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("quickstart"),
    overrides: Overrides = None,
) -> None:
    """Try everything on made-up street scenes.

    Checks them, trains a small network, judges it and predicts: at most five minutes on two CPU cores.

    \b
    Example:
      featherseg quickstart
      featherseg quickstart --output first-try train.steps=300
    """
    from featherseg.data.check import check_dataset
    from featherseg.data.sources import STREETS, open_dataset
    from featherseg.deploy.files import predict_files
    from featherseg.deploy.segmenter import load
    from featherseg.models.shipped import list_weights
    from featherseg.recipes.reading import read_recipe
    from featherseg.training.checkpoint import NAME, PREVIOUS
    from featherseg.training.evaluation import evaluate
    from featherseg.training.loop import WEIGHTS

    began = time.monotonic()
    settings = [f"train.precision={'bf16' if _fast_bf16() else 'fp32'}"]
    if START in list_weights():
        settings.append(f"start.weights={START}")
    recipe = read_recipe(RECIPE, [*settings, *(overrides or ())])
    run = output / "run"

    typer.echo("1/5  Checking the scenes")
    with progress_bar("reading") as advance:
        checked = check_dataset(STREETS, progress=advance)
    if not checked.ok:
        typer.echo(f"the scenes are not fit for training; see: {PROGRAM} check {STREETS}")
        raise typer.Exit(NOT_SO)

    origin = f"from {recipe.start.weights}" if recipe.start.weights else "from nothing"
    typer.echo(
        f"2/5  Training {recipe.model.name} {origin} on {recipe.data.count or checked.splits['train'].images} scenes"
    )
    for name in (NAME, PREVIOUS):
        (run / name).unlink(missing_ok=True)  # an earlier quickstart in this folder is done again
    code = run_training(recipe, run, resume=False, command=[PROGRAM, *context.obj], report=False)
    if code:
        raise typer.Exit(code)

    typer.echo("3/5  Judging it on scenes of the test split")
    segmenter = load(run / WEIGHTS)
    test = open_dataset(STREETS, "test", size=recipe.data.size, seed=recipe.data.seed)
    with progress_bar("judging") as advance:
        judged = evaluate(segmenter.network, test, trained_on=recipe.data.train_split, progress=advance)

    typer.echo("4/5  Labelling new scenes")
    scenes = _new_scenes(recipe, len(test), output / "scenes")
    predict_files(segmenter, [scenes], output / "predicted", problem=typer.echo)

    typer.echo("5/5  Writing the report")
    page = _report(recipe, segmenter, judged, output, [PROGRAM, *context.obj], examples(segmenter, test, 6))
    figures = judged.figures()
    typer.echo(f"\n{figures['protocol']}: mIoU {figures['miou']:.1f} %, in {time.monotonic() - began:.0f} s")
    typer.echo(f"Look at {page} and at the pictures in {output / 'predicted'}.\n\n{next_steps(run / WEIGHTS)}")


def next_steps(weights: Path) -> str:
    """What a person types next for data of their own."""
    from featherseg.models.shipped import list_weights

    scratch = "" if START in list_weights() else " start.encoder=null"
    return "\n".join(
        (
            "Now your own data. Images in images/train, images/val, masks (8-bit PNG of class ids, 255 = ignore) in",
            "masks/train, masks/val, class names in classes.txt, one a line:",
            f"  {PROGRAM} check path/to/data",
            f"  {PROGRAM} train own_data name=mine data.source=path/to/data{scratch}",
            f"  {PROGRAM} eval --weights runs/mine/weights.safetensors --data path/to/data --split val",
            f"  {PROGRAM} predict path/to/photos --weights runs/mine/weights.safetensors -o labelled",
            "Or label any picture with the network that was just trained:",
            f"  {PROGRAM} predict photo.jpg --weights {weights} -o labelled",
        )
    )


def _fast_bf16() -> bool:
    """Whether this CPU computes in bfloat16; where it does not, bf16 is slower than fp32."""
    import torch

    asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, lambda: False)()) for name in asked)


def _new_scenes(recipe: "Recipe", first: int, folder: Path) -> Path:
    """Save scenes beyond those of the test split as PNG."""
    from featherseg.data.sources import STREETS, open_dataset
    from featherseg.deploy.segmentation import png_bytes

    data = recipe.data
    scenes = open_dataset(STREETS, "test", size=data.size, count=first + NEW_SCENES, seed=data.seed)
    for index in range(first, first + NEW_SCENES):
        sample = scenes.read(index)
        atomic_write(folder / f"{sample.key}.png", png_bytes(sample.image))
    return folder


def _report(
    recipe: "Recipe",
    segmenter: "Segmenter",
    judged: "Evaluation",
    output: Path,
    command: list[str],
    shown: Any,
) -> Path:
    from featherseg.cards import card, write_card
    from featherseg.data.sources import STREETS, open_dataset
    from featherseg.files import file_sha256
    from featherseg.report.training_report import training_report
    from featherseg.training.loop import WEIGHTS

    figures = judged.figures()
    kept = {key: value for key, value in figures.items() if key not in ("protocol", "miou_interval_95")}
    weights = output / "run" / WEIGHTS
    made = card(
        "evaluation",
        protocol=figures["protocol"],
        figures=kept | {"miou_interval": figures["miou_interval_95"]},
        command=command,
        seeds=[recipe.train.seed],
        data_fingerprint=open_dataset(STREETS, "test", size=recipe.data.size, seed=recipe.data.seed).fingerprint(),
        model=recipe.model.name,
        weights_sha256=file_sha256(weights),
    )
    write_card(output / CARD_FILE, made)
    return training_report(
        output / "run",
        labels=segmenter.labels,
        confusion=judged.confusion,
        calibration=judged.calibration,
        examples=shown,
        card=made,
        facts={"model": recipe.model.name, "data": STREETS, "steps": recipe.train.steps or "by epochs"},
        next_steps=next_steps(weights),
        title="featherseg quickstart",
        output=output / "report.html",
    )
