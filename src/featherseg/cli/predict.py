"""``featherseg predict``: label, classify or search images with trained weights, whichever those do."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featherseg.cli.common import WRONG_USE, Device, check_running, note, progress_bar
from featherseg.errors import FeathersegError, nearest

if TYPE_CHECKING:
    from featherseg.deploy.files import ImageFile, Predictor

TASKS = {"segment": "segmentation", "classify": "classification", "detect": "detection"}


def predict(
    images: Annotated[list[str], typer.Argument(help="Image files, folders (with all below) or quoted globs.")],
    weights: Annotated[str, typer.Option("--weights", "-w", help="A weights file, or the name of shipped weights.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")],
    task: Annotated[
        str | None, typer.Option(help="What the weights must be for: segment, classify or detect. They tell it.")
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Write the coloured pictures too.")] = True,
    submission: Annotated[
        str | None, typer.Option(help="Write what a benchmark server takes instead: cityscapes.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="With --submission: the split of a Cityscapes root, test if not given.")
    ] = None,
    device: Device = "cpu",
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    threads: Annotated[
        int | None, typer.Option(help="At most so many threads; as PyTorch decides, if not given.")
    ] = None,
    classes: Annotated[
        Path | None, typer.Option(help="Class names of an .onnx or .xml file of another program, one a line.")
    ] = None,
) -> None:
    """Label, classify or search images with trained weights.

    Weights of a segmentation write NAME.png (class ids), NAME_overlay.png (with legend) and NAME.json (shares of the
    classes); those of a classifier NAME.json (the five most probable classes), and print them; those of a detector
    NAME.json (boxes), NAME.txt (in KITTI's result format) and NAME_boxes.jpg. An image that cannot be read is reported,
    the others are done, and the exit code is 2.

    WEIGHTS may be a file of another runtime (.onnx, .xml of OpenVINO, .tflite), which then runs it.

    With --submission cityscapes, IMAGES is a Cityscapes root or images named as in Cityscapes, and label ids alone are
    written, one PNG an image.

    \b
    Example:
      featherseg predict photo.jpg holiday/ --weights fassd_net_l2.camvid -o predicted
      featherseg predict photo.jpg --task classify -w runs/mine/weights.safetensors -o predicted
      featherseg predict holiday/ -w mine.xml --precision bf16 -o predicted
      featherseg predict street.jpg --task detect -w runs/streets_pyramid_rpn/weights.safetensors -o predicted
      featherseg predict path/to/cityscapes -w mine.safetensors -o submission --submission cityscapes
    """
    from featherseg.deploy.loading import load, weights_task

    check_running(precision, threads)
    running: dict[str, Any] = {"device": device, "precision": precision, "threads": threads, "classes": classes}
    does = weights_task(weights)
    if task is not None:
        _check_task(task, does, weights)
    if submission is not None:
        _submit(images, weights, output, submission, split or "test", running)
        return
    if split is not None:
        raise FeathersegError("--split goes with --submission. To label the images of one split, name their folder.")
    predictor: Any = load(weights, **running)
    if does == "classification":
        _predict(predictor, images, output, "classified", outputs=(".json",), done=_tell)
    elif does == "detection":
        from featherseg.deploy.detector import OUTPUTS

        _predict(predictor, images, output, "searched", outputs=OUTPUTS, overlay=overlay, done=_tell)
    else:
        _predict(predictor, images, output, "labelled", overlay=overlay)


def _check_task(task: str, does: str, weights: str) -> None:
    if task not in TASKS:
        raise FeathersegError(f"--task {task!r} is not known{nearest(task, TASKS)}. There are: {', '.join(TASKS)}.")
    if TASKS[task] != does:
        verb = next((verb for verb, kind in TASKS.items() if kind == does), None)
        mend = f"Choose --task {verb}" if verb else "Leave it out"
        raise FeathersegError(f"--task {task}: {weights} does {does}. {mend}, or give other weights.")


def _tell(image: "ImageFile", result: Any) -> None:
    typer.echo(f"{image.path}: {result}")


def _predict(
    predictor: "Predictor",
    images: list[str],
    output: Path,
    verb: str,
    *,
    done: "Callable[[ImageFile, Any], None] | None" = None,
    **options: Any,
) -> None:
    from featherseg.deploy.files import predict_files

    with progress_bar("predicting") as advance:
        outcome = predict_files(
            predictor,
            images,
            output,
            problem=lambda line: note(f"featherseg: error: {line}"),
            progress=advance,
            done=done,
            **options,
        )
    plural = "" if outcome.written == 1 else "s"
    typer.echo(f"{outcome.written} image{plural} {verb} in {output}")
    if outcome.failed:
        raise typer.Exit(WRONG_USE)


def _submit(images: list[str], weights: str, output: Path, benchmark: str, split: str, running: dict[str, Any]) -> None:
    if benchmark != "cityscapes":
        raise FeathersegError(f"--submission {benchmark!r} is not known. There is: cityscapes.")
    from featherseg.deploy.cityscapes_submission import write_submission
    from featherseg.deploy.exported import is_exported
    from featherseg.deploy.loading import load
    from featherseg.deploy.segmenter import load as load_segmenter

    plain = {name: running[name] for name in ("device", "precision")}
    segmenter: Any = load(weights, **running) if is_exported(weights) else load_segmenter(weights, **plain)
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
