"""``featherseg eval`` for the weights of a classifier.

Choices worth knowing:

- Weights of a folder without splits are judged on the split they were trained with: their recipe draws it again, and a
  digest in the weights tells whether it came out the same. Where it does not, or for other data, the split file of the
  run decides.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from featherseg.cli.common import note, print_json, progress_bar
from featherseg.cli.evaluation_card import write_evaluation_card
from featherseg.errors import FeathersegError, nearest

if TYPE_CHECKING:
    from featherseg.classification.class_folders import ClassifiedImages
    from featherseg.deploy.classifier import Classifier

SCORES = (("top1", "top-1"), ("top5", "top-5"), ("mean_class_accuracy", "mean class accuracy"))
WORST = 5


def evaluate_classifier(
    weights: str,
    data: str,
    split: str,
    *,
    command: list[str],
    split_file: Path | None,
    flip: bool,
    card: Path | None,
    picture: Path | None,
    predictions: Path | None,
    precision: str,
    device: str,
    as_json: bool,
) -> None:
    """Judge a classifier; the arguments are those of the command."""
    from featherseg.classification.evaluation import judge, protocol_string, save_predictions
    from featherseg.deploy.loading import load_classifier
    from featherseg.files import file_sha256
    from featherseg.models.shipped import weights_path

    classifier = load_classifier(weights, device=device)
    images = open_for(classifier, data, split, split_file)
    protocol = protocol_string(images, trained_on(classifier, images), classifier.view, flip=flip)
    with progress_bar("judging") as advance:
        judged = judge(
            classifier.network,
            images,
            classifier.view,
            protocol=protocol,
            flip=flip,
            precision=precision,
            progress=advance,
        )
    figures, sha256, fingerprint = judged.figures(), file_sha256(weights_path(weights)), images.fingerprint()
    about = {"weights": weights, "weights_sha256": sha256, "data_fingerprint": fingerprint, "precision": precision}
    if predictions is not None:
        named = {"model": classifier.metadata["architecture"], "weights_sha256": sha256}
        note(f"predictions: {save_predictions(predictions, judged, named)}")
    if picture is not None:
        from featherseg.data.labels import LabelSet
        from featherseg.data.palette import distinct_colours
        from featherseg.files import atomic_write
        from featherseg.report.plots import confusion_picture

        labels = LabelSet("classes", judged.classes, distinct_colours(len(judged.classes)))
        atomic_write(picture, confusion_picture(judged.confusion(), labels))
        note(f"confusion matrix: {picture}")
    if card is not None:
        write_evaluation_card(
            card,
            command,
            classifier.name,
            classifier.metadata,
            figures,
            sha256=about["weights_sha256"],
            fingerprint=about["data_fingerprint"],
            precision=precision,
        )
        note(f"card: {card}")
    if as_json:
        print_json(figures | about)
    else:
        typer.echo(readable(figures))


def open_for(classifier: "Classifier", data: str, split: str, split_file: Path | None) -> "ClassifiedImages":
    """The split of ``data`` that ``classifier`` may be judged on.

    Raises:
        FeathersegError: no such data or split, its classes are others than the weights', or a folder without splits
            would be cut otherwise than for the training.
    """
    from featherseg.classification.class_folders import ClassFolders, SplitSettings
    from featherseg.classification.sources import (
        available_parts,
        has_splits,
        is_classified,
        open_images,
        split_settings,
    )

    if not is_classified(data):
        raise FeathersegError(
            f"{data}: holds no images in class folders, and {classifier.name} is a classifier. Give a folder with "
            "SPLIT/CLASS/IMAGE, CLASS/IMAGE, or Caltech's."
        )
    recipe = (classifier.metadata.get("recipe") or {}).get("data") or {}
    known = available_parts(data)
    if split not in known:
        choices = " or ".join(f"--split {name}" for name in known)
        raise FeathersegError(f"{data}: no split {split!r}{nearest(split, known)}. Choose {choices}.")
    if has_splits(data):
        settings = SplitSettings(file=split_file)
    elif split_file is None and recipe.get("split_file"):
        raise FeathersegError(
            f"{classifier.name}: was trained on a split that was read from {recipe['split_file']}. Give that file, or "
            "the training's split.json, by --split-file."
        )
    else:
        settings = SplitSettings(file=split_file) if split_file else split_settings(recipe)
    images = open_images(data, split, settings)
    if images.classes != classifier.classes:
        _refuse_classes(classifier, images)
    division = classifier.metadata.get("split")
    if division and isinstance(images, ClassFolders) and images.division.digest() != division.get("sha256"):
        raise FeathersegError(
            f"{data}: cut by {images.division.origin}, it gives other splits than {classifier.name} was trained on, so "
            "that training images could be among those it is judged on. Give the split.json of its training by "
            "--split-file."
        )
    return images


def _refuse_classes(classifier: "Classifier", images: "ClassifiedImages") -> None:
    ours, theirs = set(classifier.classes), set(images.classes)
    more, less = sorted(theirs - ours), sorted(ours - theirs)
    what = [
        f"{len(names)} {verb} ({', '.join(names[:3])})" for names, verb in ((more, "more"), (less, "fewer")) if names
    ]
    raise FeathersegError(
        f"{images.root}: has other classes than {classifier.name} was trained on: "
        f"{' and '.join(what) or 'the same in another order'}. Judge it on data with the classes it was trained on; "
        "the split.json of its training, given by --split-file, names them."
    )


def trained_on(classifier: "Classifier", images: "ClassifiedImages") -> str:
    """What a protocol says of the training: the split alone, where it was on the same data."""
    from featherseg.classification.evaluation import data_name

    told = classifier.metadata.get("trained_on")
    return str(told).removeprefix(f"{data_name(images)}/") if told else "unknown"


def readable(figures: dict[str, Any]) -> str:
    """The figures as a table for a person; all are percent."""
    lines = [figures["protocol"], ""]
    for key, name in SCORES:
        low, high = figures[f"{key}_interval"]
        lines.append(f"{name:<28}{figures[key]:.2f}  (95 % interval {low:.2f} to {high:.2f})")
    judged = [(share, name) for name, share in figures["class_accuracy"].items() if share is not None]
    bounds = figures["class_accuracy_interval"]
    worst = ", ".join(
        f"{n} {share:.0f} ({bounds[n][0]:.0f} to {bounds[n][1]:.0f})" for share, n in sorted(judged)[:WORST]
    )
    return "\n".join([*lines, f"{'worst classes':<28}{worst}", f"{'images':<28}{figures['images']:,}"])
