"""``featherseg eval``: judge weights on a split of a data set; see eval_classification.py and eval_detection.py too."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from featherseg.cli.common import (
    Card,
    ClassNames,
    Data,
    Device,
    Flip,
    Json,
    Scales,
    Threads,
    check_running,
    note,
    print_json,
    progress_bar,
    table,
)
from featherseg.cli.evaluation_card import write_evaluation_card
from featherseg.errors import FeathersegError, nearest

if TYPE_CHECKING:
    from featherseg.data.dataset import SegmentationDataset
    from featherseg.deploy.segmenter import Segmenter
    from featherseg.training.cityscapes_evaluation import CityscapesJudge

PRECISIONS = ("fp32", "bf16", "fp16")
SCORES = (
    ("miou", "mIoU"),
    ("pixel_accuracy", "pixel accuracy"),
    ("frequency_weighted_iou", "frequency-weighted IoU"),
    ("boundary_iou", "boundary IoU"),
    ("expected_calibration_error", "expected calibration error"),
)
CITYSCAPES_SCORES = (
    ("class_iiou", "class iIoU"),
    ("category_iou", "category IoU"),
    ("category_iiou", "category iIoU"),
)


def evaluate(
    context: typer.Context,
    data: Data,
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="A weights file, or the name of shipped weights.")
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(
            help="Instead of weights: a folder of Cityscapes label maps, as `predict --submission` writes, or of "
            "KITTI's result files, as `predict` of a detector writes."
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Which split.")] = "test",
    flip: Flip = False,
    scales: Scales = "1",
    card: Card = None,
    picture: Annotated[Path | None, typer.Option(help="Write the confusion matrix (PNG) here.")] = None,
    predictions: Annotated[
        Path | None, typer.Option(help="Of a classifier: write what it says of every image here, for `compare`.")
    ] = None,
    split_file: Annotated[
        Path | None, typer.Option(help="Of a classifier: the split.json of its training, for data without splits.")
    ] = None,
    count: Annotated[
        int | None, typer.Option(min=1, help="Of a detector on streets: how many scenes, 100 of test if not given.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    device: Device = "cpu",
    threads: Threads = None,
    classes: ClassNames = None,
    as_json: Json = False,
) -> None:
    """Judge weights, or label maps in files, on a data set.

    mIoU with its interval, IoU of each class, boundary IoU and calibration, at native resolution. On Cityscapes also
    class iIoU, category IoU and category iIoU, as its benchmark judges. Of a classifier, top-1, top-5 and the accuracy
    of each class with their intervals, on images in class folders. Of a detector, average precision as KITTI's
    benchmark takes it.

    WEIGHTS may be a file of another runtime (.onnx, .xml of OpenVINO, .tflite), which then runs it.

    With --submission, one PNG of label ids an image of a Cityscapes split, or one text file of boxes an image of a
    KITTI split, whoever wrote them, is judged by the same rules; no network is needed.

    \b
    Example:
      featherseg eval --weights fassd_net_l2.camvid --data path/to/camvid --split test --json
      featherseg eval -w runs/mine/weights.safetensors --data my-data.yaml --flip --card mine.json
      featherseg eval -w runs/net/weights.safetensors --data path/to/caltech101 --predictions net.json
      featherseg eval --submission predicted/ --data path/to/cityscapes --split val --card predicted.json
    """
    check_running(precision, threads, PRECISIONS)
    parsed = parse_scales(scales)
    if submission is not None:
        from featherseg.cli.eval_detection import evaluate_results, readable_boxes
        from featherseg.cli.eval_submission import evaluate_submission
        from featherseg.data.kitti import kitti_splits

        given = {"--weights": weights, "--flip": flip, "--scales": parsed != (1.0,), "--picture": picture}
        given |= {"--predictions": predictions, "--split-file": split_file, "--classes": classes}
        given |= {"--precision": precision != "fp32", "--device": device != "cpu", "--count": count}
        idle = [option for option, value in given.items() if value]
        if idle:
            raise FeathersegError(f"{idle[0]}: --submission judges files, and runs no network. Leave one of them out.")
        boxes = bool(kitti_splits(data))
        if boxes:
            figures = evaluate_results(submission, data, split, command=context.obj, card=card)
        else:
            figures = evaluate_submission(submission, data, split, command=context.obj, card=card, threads=threads)
        if as_json:
            print_json(figures)
        else:
            typer.echo(readable_boxes(figures) if boxes else readable(figures))
        return
    if weights is None:
        raise FeathersegError(
            "eval: nothing to judge. Give --weights, or --submission with a folder of Cityscapes label maps or of "
            "KITTI's result files."
        )
    from featherseg.deploy.loading import weights_task

    task = weights_task(weights)
    if count is not None and task != "detection":
        raise FeathersegError(f"--count is of detectors, and {weights} does {task}. Leave it out.")
    if task == "classification":
        if parsed != (1.0,):
            raise FeathersegError("--scales is for segmentations; a classifier sees its own view. Leave it out.")
        from featherseg.cli.eval_classification import evaluate_classifier

        evaluate_classifier(
            weights,
            data,
            split,
            command=context.obj,
            split_file=split_file,
            flip=flip,
            card=card,
            picture=picture,
            predictions=predictions,
            precision=precision,
            device=device,
            as_json=as_json,
        )
        return
    if task == "detection":
        from featherseg.cli.eval_detection import evaluate_detection

        given = {"--flip": flip, "--scales": parsed != (1.0,), "--picture": picture, "--predictions": predictions}
        idle = [option for option, value in (given | {"--split-file": split_file}).items() if value]
        if idle:
            raise FeathersegError(f"{idle[0]} is not for detectors, and {weights} is one. Leave it out.")
        evaluate_detection(
            weights,
            data,
            split,
            count=count,
            command=context.obj,
            card=card,
            precision=precision,
            device=device,
            as_json=as_json,
        )
        return
    if predictions is not None or split_file is not None:
        option = "--predictions" if predictions is not None else "--split-file"
        raise FeathersegError(f"{option} is of classifiers, and {weights} is none. Leave it out.")
    from featherseg.data.dataset import shortfall_of
    from featherseg.data.sources import available_splits, open_dataset
    from featherseg.deploy.exported import is_exported
    from featherseg.files import file_sha256
    from featherseg.models.shipped import weights_path
    from featherseg.training import evaluation

    known = available_splits(data)
    if split not in known:
        choices = " or ".join(f"--split {name}" for name in known)
        raise FeathersegError(f"{data}: no split {split!r}{nearest(split, known)}. Choose {choices}.")
    if is_exported(weights):
        from featherseg.deploy.exported_network import SessionNetwork, load_for_judging

        if parsed != (1.0,):
            raise FeathersegError("--scales is for networks in PyTorch; an exported file sees pixels. Leave it out.")
        segmenter: Any = load_for_judging(weights, device, precision, threads, classes)
        network = SessionNetwork(segmenter)
    else:
        from featherseg.deploy.segmenter import load

        if classes is not None:
            raise FeathersegError(f"--classes is for files of other programs; {weights} knows its own. Leave it out.")
        segmenter = load(weights, device=device)
        network = segmenter.network
    dataset = open_dataset(data, split)
    compare_classes(segmenter, dataset)
    shortfall = shortfall_of(dataset)
    if shortfall:
        note(f"note: {data}: {shortfall.told}")
    view = evaluation.View(flip, parsed)
    trained_on = protocol_origin(segmenter.metadata.get("trained_on"), dataset.name)
    official = cityscapes_judge(dataset)
    with progress_bar("judging") as advance:
        judged = evaluation.evaluate(
            network,
            dataset,
            trained_on=trained_on,
            view=view,
            precision="fp32" if is_exported(weights) else precision,
            progress=advance,
            observe=official.observe if official else None,
        )
    sha256, fingerprint = file_sha256(weights_path(weights)), dataset.fingerprint()
    figures = judged.figures()
    if is_exported(weights) and network.sure_of_nothing:
        figures["expected_calibration_error"] = None
    if official:
        figures |= official.scores(judged.confusion).figures() | {"iiou_missing": official.missing()}
    if shortfall:
        figures["shortfall"] = shortfall.told
    if not figures["pixels"]:
        note(f"note: the labels of {split!r} in {data} are ignore throughout, so there is nothing to judge by")
    if picture is not None:
        from featherseg.files import atomic_write
        from featherseg.report.plots import confusion_picture

        atomic_write(picture, confusion_picture(judged.confusion, dataset.labels))
        note(f"confusion matrix: {picture}")
    if card is not None:
        apart = ("miou_interval_95", "iiou_missing", "shortfall")
        shown = {key: value for key, value in figures.items() if key not in apart}
        write_evaluation_card(
            card,
            context.obj,
            segmenter.name,
            segmenter.metadata,
            shown | {"miou_interval": figures["miou_interval_95"]},
            sha256=sha256,
            fingerprint=fingerprint,
            precision=precision,
            notes=" ".join(filter(None, (figures.get("shortfall"), figures.get("iiou_missing")))) or None,
        )
        note(f"card: {card}")
    if as_json:
        about = {"weights": weights, "weights_sha256": sha256, "data_fingerprint": fingerprint, "precision": precision}
        print_json(figures | about)
    else:
        typer.echo(readable(figures))


def parse_scales(text: str) -> tuple[float, ...]:
    """``"0.75,1,1.25"`` as (0.75, 1.0, 1.25); each between 0.05 and 20."""
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or not all(0.05 <= scale <= 20 for scale in scales):
        raise FeathersegError(f"--scales {text!r} is no list of scales. Write for example 0.75,1,1.25.")
    return scales


def cityscapes_judge(dataset: "SegmentationDataset") -> "CityscapesJudge | None":
    """The official judgement of a Cityscapes split with fine labels; None for other data."""
    from featherseg.data.cityscapes import FINE, Cityscapes
    from featherseg.training.cityscapes_evaluation import CityscapesJudge

    return CityscapesJudge(dataset) if isinstance(dataset, Cityscapes) and dataset.kind == FINE else None


def compare_classes(segmenter: "Segmenter", dataset: "SegmentationDataset") -> None:
    """Refuse data whose classes are the network's in another order or number; note other names.

    Raises:
        FeathersegError: the figures would mean nothing.
    """
    ours, theirs = segmenter.labels.classes, dataset.labels.classes
    if ours == theirs:
        return
    if len(ours) != len(theirs):
        raise FeathersegError(
            f"{dataset.name}: has {len(theirs)} classes, and {segmenter.name} was trained on {len(ours)}. Judge it on "
            "data with the classes it was trained on."
        )
    if sorted(ours) == sorted(theirs):
        raise FeathersegError(
            f"{dataset.name}: has the classes of {segmenter.name} in another order. Put them into the order "
            f"{', '.join(ours)}."
        )
    note(f"note: the classes have other names in the weights ({', '.join(ours)}) than in {dataset.name}")


def protocol_origin(trained_on: str | None, dataset: str) -> str:
    """What a protocol string says of the training: the split alone, where it was on the same data.

    >>> protocol_origin("camvid11/480x360/train", "camvid11/480x360")
    'train'
    """
    if not trained_on:
        return "unknown"
    return trained_on.removeprefix(f"{dataset}/")


def readable(figures: dict[str, Any]) -> str:
    """The figures as a table for a person; all are percent."""
    low, high = figures["miou_interval_95"]
    rows = [[name, figures["iou"][name], figures["class_accuracy"][name]] for name in figures["iou"]]
    head = ["class", "IoU, %", "recall, %"]
    if "class_iiou_per_class" in figures:
        head.append("iIoU, %")
        rows = [[*row, figures["class_iiou_per_class"].get(row[0])] for row in rows]
    lines = [figures["protocol"], "", table(head, rows), ""]
    for key, name in (score for score in (*SCORES, *CITYSCAPES_SCORES) if score[0] in figures):
        value = "–" if figures[key] is None else f"{figures[key]:.2f} %"
        interval = f"  (95 % interval {low:.2f} to {high:.2f})" if key == "miou" and low is not None else ""
        lines.append(f"{name:<28}{value}{interval}")
    if figures.get("iiou_missing"):
        lines.append(figures["iiou_missing"])
    return "\n".join([*lines, f"{'images':<28}{figures['images']:,}"])
