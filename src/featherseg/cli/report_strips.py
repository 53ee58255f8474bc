"""The pictures of a page of cards: what several networks label on a few images of a split."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherseg.errors import FeathersegError

if TYPE_CHECKING:
    from featherseg.data.labels import LabelSet
    from featherseg.report.card_report import Strip


def report_strips(
    weights: Sequence[str], data: str, split: str, count: int, advance: Callable[[int, int], None]
) -> "tuple[list[Strip], LabelSet]":
    """``count`` images spread evenly over a split, labelled by each of the weights, and the data's classes.

    Raises:
        FeathersegError: the data has no such split, or weights are not there, do no segmentation or have other classes.
    """
    from featherseg.cli.eval import compare_classes
    from featherseg.cli.run_report import spread
    from featherseg.data.sources import open_dataset
    from featherseg.deploy.loading import load, weights_task
    from featherseg.report.card_report import Strip

    dataset = open_dataset(data, split)
    samples = [dataset.read(index) for index in spread(len(dataset), count)]
    predictions = [{} for _ in samples]
    for name in dict.fromkeys(weights):
        if weights_task(name) != "segmentation":
            raise FeathersegError(f"{name}: does no segmentation, so it labels no pictures. Leave it out.")
        segmenter: Any = load(name)
        compare_classes(segmenter, dataset)
        shown = name if sum(Path(one).name == Path(name).name for one in set(weights)) > 1 else Path(name).name
        for number, sample in enumerate(samples):
            predictions[number][shown] = segmenter.predict(sample.image).labels
            advance(sum(map(len, predictions)), len(samples) * len(set(weights)))
    strips = [
        Strip(sample.key, sample.image, sample.label, said) for sample, said in zip(samples, predictions, strict=True)
    ]
    return strips, dataset.labels
