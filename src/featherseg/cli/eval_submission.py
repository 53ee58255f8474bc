"""``featherseg eval --submission``: judge Cityscapes label maps that lie in files, whoever wrote them."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from featherseg.cli.common import PROGRAM, note, progress_bar
from featherseg.errors import FeathersegError, nearest

if TYPE_CHECKING:
    from featherseg.data.cityscapes import Cityscapes


def evaluate_submission(
    folder: Path, data: str, split: str, *, command: list[str], card: Path | None, threads: int | None
) -> dict[str, Any]:
    """Judge the label maps in ``folder`` and write their card, if asked for.

    Returns:
        the figures, with what they are of.

    Raises:
        FeathersegError: not Cityscapes, no such split, or label maps that are not one of each image of it.
    """
    from featherseg.cards import card as make_card
    from featherseg.cards import write_card
    from featherseg.data.dataset import shortfall_of
    from featherseg.training.cityscapes_files import judge_submission, submission_sha256

    dataset = open_cityscapes(data, split)
    shortfall = shortfall_of(dataset)
    if shortfall:
        note(f"note: {data}: {shortfall.told}")
    with progress_bar("judging") as advance:
        figures = judge_submission(dataset, folder, workers=threads, progress=advance)
    if not figures["pixels"]:
        note(f"note: the labels of {split!r} in {data} are ignore throughout, so there is nothing to judge by")
    if shortfall:
        figures["shortfall"] = shortfall.told
    about: dict[str, Any] = {
        "submission": folder.resolve().name,
        "submission_sha256": submission_sha256(dataset, folder),
        "data_fingerprint": dataset.fingerprint(),
    }
    if card is not None:
        apart = ("protocol", "miou_interval_95", "shortfall", "iiou_missing")
        shown = {key: value for key, value in figures.items() if key not in apart}
        made = make_card(
            "evaluation",
            protocol=figures["protocol"],
            figures=shown | {"miou_interval": figures["miou_interval_95"]},
            command=[PROGRAM, *command],
            seeds=[],
            notes=" ".join(filter(None, (figures.get("shortfall"), figures["iiou_missing"]))) or None,
            weights=f"label maps in {about['submission']}",
            **about,
        )
        note(f"card: {write_card(card, made)}")
    return figures | about


def open_cityscapes(data: str, split: str) -> "Cityscapes":
    """A split of Cityscapes with fine labels.

    Raises:
        FeathersegError: it is no such data, or has no such split.
    """
    from featherseg.data.cityscapes import FINE, Cityscapes
    from featherseg.data.sources import available_splits, open_dataset

    known = available_splits(data)
    if split not in known:
        choices = " or ".join(f"--split {name}" for name in known)
        raise FeathersegError(f"{data}: no split {split!r}{nearest(split, known)}. Choose {choices}.")
    dataset = open_dataset(data, split)
    if not isinstance(dataset, Cityscapes) or dataset.kind != FINE:
        raise FeathersegError(
            f"{data}: --submission judges label maps of Cityscapes by its fine labels, and this is {dataset.name}. "
            "Give a folder with leftImg8bit/ and gtFine/."
        )
    return dataset
