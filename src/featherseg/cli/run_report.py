"""The page of a run, made again from nothing but its folder.

The validation split is judged anew with the run's last weights, since confusion counts and pictures are not kept.
Where the data has gone, the page is written without them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherseg.cards import shorten_paths
from featherseg.cli.common import note, progress_bar
from featherseg.errors import FeathersegError

if TYPE_CHECKING:
    from featherseg.data.dataset import SegmentationDataset
    from featherseg.deploy.segmenter import Segmenter
    from featherseg.recipes.schema import Recipe
    from featherseg.report.training_report import Example

RECIPE_FILE = "recipe.yaml"
EXAMPLES = 4


def write_run_report(folder: Path, output: Path | None = None) -> Path:
    """Write ``folder/report.html``, or ``output``; for a sequence of stages, that of the last stage that has weights.

    Raises:
        FeathersegError: the folder is no run's, or has no weights yet.
    """
    from featherseg.data.labels import LabelSet
    from featherseg.data.palette import distinct_colours
    from featherseg.models.weights import read_metadata
    from featherseg.recipes.reading import read_experiment
    from featherseg.recipes.schema import StagedRecipe
    from featherseg.report.training_report import training_report
    from featherseg.training.loop import BEST, WEIGHTS

    if not (folder / RECIPE_FILE).is_file():
        raise FeathersegError(f"{folder}: not the folder of a run: it holds no {RECIPE_FILE}. Give runs/NAME.")
    recipe = read_experiment(folder / RECIPE_FILE)
    if isinstance(recipe, StagedRecipe):
        trained = [stage for stage in recipe.stages if (folder / stage.name / WEIGHTS).is_file()]
        return write_run_report(folder / (trained or recipe.stages)[-1].name, output)
    weights = next((folder / name for name in (WEIGHTS, BEST) if (folder / name).is_file()), None)
    if weights is None:
        raise FeathersegError(
            f"{folder}: has no weights yet. Go on with the training: featherseg train {folder / RECIPE_FILE} --resume."
        )
    facts = {"model": recipe.model.name, "data": shorten_paths(recipe.data.source), "weights": weights.name}
    if recipe.task == "classification":
        classes = tuple(read_metadata(weights)["classes"])
        labels = LabelSet("classes", classes, distinct_colours(len(classes)))
        return training_report(folder, labels=labels, facts=facts, output=output, **_judge_classes(weights, recipe))
    if recipe.task == "detection":
        classes = tuple(read_metadata(weights)["classes"])
        boxes = LabelSet("boxes", classes, distinct_colours(len(classes)))
        return training_report(folder, labels=boxes, facts=facts, output=output)
    from featherseg.deploy.segmenter import load

    segmenter = load(weights, device=recipe.train.device)
    judged = _judge(segmenter, recipe)
    return training_report(folder, labels=segmenter.labels, facts=facts, output=output, **judged)


def _judge(segmenter: "Segmenter", recipe: "Recipe") -> dict[str, Any]:
    from featherseg.data.sources import open_dataset
    from featherseg.training.evaluation import evaluate

    data = recipe.data
    try:
        val = open_dataset(data.source, data.val_split, size=data.size, count=data.val_count, seed=data.seed)
        with progress_bar("judging") as advance:
            judged = evaluate(
                segmenter.network, val, precision=recipe.train.precision, thorough=False, progress=advance
            )
        return {"confusion": judged.confusion, "examples": examples(segmenter, val)}
    except FeathersegError as error:
        note(f"note: the report has no classes and pictures: {error}")
        return {}


def _judge_classes(weights: Path, recipe: "Recipe") -> dict[str, Any]:
    from featherseg.classification.evaluation import judge
    from featherseg.classification.task import open_folders
    from featherseg.deploy.loading import load_classifier

    try:
        val = open_folders(recipe)[1]
        classifier = load_classifier(weights, device=recipe.train.device)
        with progress_bar("judging") as advance:
            judged = judge(classifier.network, val, classifier.view, protocol="", progress=advance)
        return {"class_counts": judged.confusion()}
    except FeathersegError as error:
        note(f"note: the report has no classes: {error}")
        return {}


def examples(segmenter: "Segmenter", dataset: "SegmentationDataset", count: int = EXAMPLES) -> "Sequence[Example]":
    """``count`` predictions spread evenly over a split."""
    from featherseg.report.training_report import Example

    shown = []
    for index in spread(len(dataset), count):
        sample = dataset.read(index)
        prediction = segmenter.predict(sample.image).labels
        shown.append(Example(sample.image, sample.label, prediction, sample.key))
    return shown


def spread(length: int, count: int) -> list[int]:
    """At most ``count`` places spread evenly over ``length``, the first and the last among them.

    >>> spread(10, 3)
    [0, 4, 9]
    """
    return sorted({round(i * (length - 1) / max(1, count - 1)) for i in range(count)})
