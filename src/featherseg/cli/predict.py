"""``featherseg predict``: label, classify or search images with trained weights, whichever those do."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featherseg.cli.common import (
    WRONG_USE,
    ClassNames,
    Device,
    Flip,
    Scales,
    Threads,
    Weights,
    check_running,
    note,
    parse_size,
    progress_bar,
)
from featherseg.cli.eval import parse_scales
from featherseg.cli.predict_streams import Recording, predict_streams
from featherseg.errors import FeathersegError, nearest

if TYPE_CHECKING:
    from featherseg.deploy.files import ImageFile, Names, Predictor
    from featherseg.deploy.ray_engine import Crew
    from featherseg.deploy.views import View

ENGINES = ("local", "ray")
TASKS = {"segment": "segmentation", "classify": "classification", "detect": "detection"}


def predict(
    images: Annotated[
        list[str], typer.Argument(help="Images, folders (with all below), quoted globs, videos, camera:0.")
    ],
    weights: Weights,
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
    threads: Threads = None,
    classes: ClassNames = None,
    jobs: Annotated[
        int | None, typer.Option(help="So many processes share the images; with --engine ray a machine, if not given.")
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or ray for the machines of a Ray cluster.")] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="With --engine ray: auto or HOST:PORT; else RAY_ADDRESS, or this machine alone."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="With --engine ray: leave out images whose results are there.")
    ] = False,
    window: Annotated[
        str | None, typer.Option(help="Slide a window over larger images: 512x1024, or train for the training's size.")
    ] = None,
    letterbox: Annotated[
        str | None, typer.Option(help="Make images fit this size, and pad the rest: 512x1024.")
    ] = None,
    pad: Annotated[str | None, typer.Option(help="Pad images to this size as they are: 512x1024.")] = None,
    flip: Flip = False,
    scales: Scales = "1",
    compiled: Annotated[bool, typer.Option("--compile", help="Let PyTorch compile the network first.")] = False,
    container: Annotated[str, typer.Option(help="Of labelled videos: mp4, mkv, mov, avi or webm.")] = "mp4",
    ids: Annotated[bool, typer.Option("--ids", help="Of videos: write the class ids too, as a lossless .mkv.")] = False,
    frames: Annotated[int | None, typer.Option(help="Of videos and cameras: end after so many frames.")] = None,
) -> None:
    """Label, classify or search images with trained weights.

    Weights of a segmentation write NAME.png (class ids), NAME_overlay.png (with legend) and NAME.json (shares of the
    classes); those of a classifier NAME.json (the five most probable classes), and print them; those of a detector
    NAME.json (boxes), NAME.txt (in KITTI's result format) and NAME_boxes.jpg. An image that cannot be read is reported,
    the others are done, and the exit code is 2.

    A video writes NAME_overlay.mp4 and NAME.json, a camera (camera:0, camera:/dev/video2, camera:rtsp://...) the same
    until Ctrl-C. Of a video every frame is labelled; of a camera the newest, when the network is free for it.

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
      featherseg predict clip.mp4 camera:0 -w mine.xml -o predicted
      featherseg predict aerial/ -w mine.safetensors -o predicted --window train --flip --jobs 4
      featherseg predict aerial/ -w mine.safetensors -o predicted --engine ray --address auto --resume
    """
    from featherseg.deploy.files import Names
    from featherseg.deploy.loading import load_viewed, weights_task, written_at
    from featherseg.deploy.video import is_stream
    from featherseg.deploy.video_sink import check_container

    check_running(precision, threads)
    running: dict[str, Any] = {"device": device, "precision": precision, "threads": threads, "classes": classes}
    if compiled:
        running["compile"] = True
    if jobs is not None and jobs < 1:
        raise FeathersegError(f"--jobs {jobs} does nothing. Give at least 1.")
    if frames is not None and frames < 1:
        raise FeathersegError(f"--frames {frames} leaves nothing to label. Give at least 1.")
    on_ray = _check_engine(engine, address, resume)
    view = _view(weights, window, letterbox, pad, flip, scales)
    does = weights_task(weights)
    if task is not None:
        _check_task(task, does, weights)
    streams = [argument for argument in images if is_stream(argument)]
    stills = [argument for argument in images if argument not in streams]
    if does != "segmentation" and (streams or not view.plain):
        what = streams[0] if streams else "--window, --letterbox, --pad, --flip and --scales"
        raise FeathersegError(f"{what}: for segmentations alone, and {weights} does {does}. Leave that out.")
    if submission is not None:
        if streams or on_ray or (jobs or 1) > 1:
            raise FeathersegError("--submission takes images, by one process. Leave videos, --jobs and --engine out.")
        _submit(images, weights, output, submission, split or "test", running, view)
        return
    if split is not None:
        raise FeathersegError("--split goes with --submission. To label the images of one split, name their folder.")
    recording = Recording(check_container(container)[1:] if overlay else None, ids, frames)
    names, make = Names(), partial(load_viewed, weights, view, **running)
    predictor = make() if streams or (not on_ray and (jobs or 1) == 1) else None
    done: dict[str, Any] = {"verb": "labelled", "overlay": overlay}
    if does == "classification":
        done = {"verb": "classified", "outputs": (".json",), "done": _tell}
    elif does == "detection":
        from featherseg.deploy.detector import OUTPUTS

        done = {"verb": "searched", "outputs": OUTPUTS, "overlay": overlay, "done": _tell}
    failed = 0
    if stills and on_ray:
        from featherseg.deploy.ray_engine import Crew

        crew = Crew(jobs, threads, address, device)
        failed += _predict(make, stills, output, names, crew=crew, resume=resume, since=written_at(weights), **done)
    elif stills and jobs is not None and jobs > 1:
        each = threads or max(1, len(os.sched_getaffinity(0)) // jobs)
        failed += _predict(partial(make, threads=each), stills, output, names, jobs=jobs, **done)
    elif stills:
        assert predictor is not None
        failed += _predict(predictor, stills, output, names, **done)
    failed += predict_streams(predictor, streams, output, recording, names)
    if failed:
        raise typer.Exit(WRONG_USE)


def _view(weights: str, window: str | None, letterbox: str | None, pad: str | None, flip: bool, scales: str) -> "View":
    from featherseg.deploy.loading import training_size
    from featherseg.deploy.views import View

    def size(option: str, text: str | None) -> tuple[int, int] | None:
        try:
            return None if text is None else parse_size(text)
        except FeathersegError as error:
            raise FeathersegError(str(error).replace("--size", option)) from None

    slid = training_size(weights) if window == "train" else size("--window", window)
    return View(
        flip=flip,
        scales=parse_scales(scales),
        window=slid,
        letterbox=size("--letterbox", letterbox),
        pad=size("--pad", pad),
    )


def _check_engine(engine: str, address: str | None, resume: bool) -> bool:
    """Whether the images go to a Ray cluster."""
    if engine not in ENGINES:
        raise FeathersegError(f"--engine {engine!r} is not known{nearest(engine, ENGINES)}. There are: local, ray.")
    if engine == "local" and (address is not None or resume):
        raise FeathersegError("--address and --resume go with --engine ray. Leave them out, or add that.")
    return engine == "ray"


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
    predictor: "Predictor | Callable[[], Predictor]",
    images: list[str],
    output: Path,
    names: "Names",
    *,
    verb: str,
    jobs: int = 1,
    crew: "Crew | None" = None,
    **options: Any,
) -> int:
    """Predict by a predictor, or by processes or a crew that make one each; the number of images that failed."""
    with progress_bar("predicting") as advance:
        options |= {"problem": lambda line: note(f"featherseg: error: {line}"), "progress": advance, "names": names}
        make: Any = predictor
        if crew is not None:
            from featherseg.deploy.ray_engine import predict_files_on_ray

            options |= {"told": _warn, "left_out": _tell_of_finished}
            outcome = predict_files_on_ray(make, images, output, crew=crew, **options)
        elif jobs > 1:
            from featherseg.deploy.workers import predict_files_in_processes

            outcome = predict_files_in_processes(make, images, output, jobs=jobs, told=_warn, **options)
        else:
            from featherseg.deploy.files import predict_files

            one: Any = predictor
            outcome = predict_files(one, images, output, **options)
    if outcome.written or not outcome.failed:
        plural = "" if outcome.written == 1 else "s"
        typer.echo(f"{outcome.written} image{plural} {verb} in {output}")
    return outcome.failed


def _tell_of_finished(count: int) -> None:
    note(f"{count} left out, since their results are there")


def _warn(line: str) -> None:
    note(f"warning: {line}")


def _submit(
    images: list[str],
    weights: str,
    output: Path,
    benchmark: str,
    split: str,
    running: dict[str, Any],
    view: "View",
) -> None:
    if benchmark != "cityscapes":
        raise FeathersegError(f"--submission {benchmark!r} is not known. There is: cityscapes.")
    from featherseg.deploy.cityscapes_submission import write_submission
    from featherseg.deploy.exported import is_exported
    from featherseg.deploy.loading import load
    from featherseg.deploy.segmenter import load as load_segmenter
    from featherseg.deploy.views import viewed

    plain = {name: running[name] for name in ("device", "precision", "compile") if name in running}
    segmenter: Any = load(weights, **running) if is_exported(weights) else load_segmenter(weights, **plain)
    segmenter = segmenter if view.plain else viewed(segmenter, view)
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
    if outcome.written:
        plural = "" if outcome.written == 1 else "s"
        typer.echo(
            f"{outcome.written} label map{plural} in {output}; pack the folder's PNGs into an archive to submit them"
        )
    if outcome.failed:
        raise typer.Exit(WRONG_USE)
