"""What the Cityscapes benchmark server takes: one PNG of label ids an image, at the image's own size.

* A file is named ``CITY_SEQUENCE_FRAME_pred_labelIds.png``: the server looks for one PNG whose name begins with the
  frame, so other PNGs of frames in the folder are refused before anything is predicted, and so are label maps of
  other images, as of another split.
* Train ids are converted to label ids; a network whose classes are not the 19 of Cityscapes is refused, since nothing
  in the files would tell.
* Images are found and read one by one, in constant memory but for their paths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from featherseg.data.cityscapes import IMAGE_SUFFIX, IMAGES, cityscapes_tree, frame_of, image_paths
from featherseg.data.cityscapes_check import COUNTS, images_package
from featherseg.data.labels import CITYSCAPES19
from featherseg.deploy.segmentation import png_bytes
from featherseg.deploy.segmenter import Segmenter
from featherseg.errors import FeathersegError, nearest
from featherseg.files import atomic_write
from featherseg.metrics.cityscapes_labels import label_ids_of

SUFFIX = "_pred_labelIds.png"
NATIVE_SIZE = (1024, 2048)


@dataclass(frozen=True)
class Submission:
    """What was written.

    Attributes:
        written: label maps.
        failed: images that could not be read.
        doubts: lines that say why the server may refuse it; empty where all is as it should be.
    """

    written: int
    failed: int
    doubts: tuple[str, ...]


def submission_images(arguments: Sequence[str | Path], split: str) -> tuple[list[Path], str | None]:
    """The images of a submission, and the split that they should be all of, or None.

    Args:
        arguments: a Cityscapes root, or image files and folders of them (with all below), named as in Cityscapes.
        split: of the root.

    Raises:
        FeathersegError: nothing there, a name that is not of Cityscapes, or a frame that occurs twice.
    """
    paths = [Path(argument) for argument in arguments]
    if len(paths) == 1 and (cityscapes_tree(paths[0])[0] / IMAGES).is_dir():
        root = cityscapes_tree(paths[0])[0]
        known = [path.name for path in sorted((root / IMAGES).iterdir()) if path.is_dir()]
        images = list(image_paths(root, split))
        if not images:
            hint = f"There are: {', '.join(known) or 'none'}{nearest(split, known)}"
            where = f"{images_package(split)} holds them" if split in COUNTS else "Choose one with --split"
            raise FeathersegError(f"{root / IMAGES / split}: no images of split {split!r}. {hint}. {where}.")
        return images, split
    images = [path for argument in paths for path in _images_of(argument)]
    seen: dict[str | None, Path] = {}
    for path in images:
        frame = frame_of(path)
        if frame is None or path.stem not in (frame, f"{frame}{IMAGE_SUFFIX}".removesuffix(".png")):
            raise FeathersegError(
                f"{path}: no name of a Cityscapes image, so the server could not tell what it shows. Names are "
                f"CITY_SEQUENCE_FRAME{IMAGE_SUFFIX}, as berlin_000000_000019{IMAGE_SUFFIX}."
            )
        if frame in seen:
            raise FeathersegError(f"{path}: shows {frame}, as {seen[frame]} does. Give each frame once.")
        seen[frame] = path
    return images, None


def _images_of(place: Path) -> list[Path]:
    if not place.exists():
        raise FeathersegError(f"{place}: no such file or folder. Give a Cityscapes root, or its images.")
    if place.is_file():
        return [place]
    found = sorted(place.rglob("*.png"))
    if not found:
        raise FeathersegError(f"{place}: no images there. Give a Cityscapes root, or a folder of its images (PNG).")
    return found


def write_submission(
    segmenter: Segmenter,
    arguments: Sequence[str | Path],
    output: str | Path,
    *,
    split: str = "test",
    problem: Callable[[str], None],
    progress: Callable[[int, int], None] | None = None,
) -> Submission:
    """Predict every image and write its label ids into ``output``.

    Args:
        segmenter: a network with the 19 classes of Cityscapes.
        arguments: as :func:`submission_images` takes them.
        output: a folder, made if need be.
        split: of a Cityscapes root.
        problem: called with one line for every image that could not be done.
        progress: called with (done, all).

    Raises:
        FeathersegError: another set of classes, images that are none of Cityscapes, or a folder with other pictures.
    """
    _must_have_cityscapes_classes(segmenter)
    images, whole = submission_images(arguments, split)
    output = Path(output)
    _refuse_other_pictures(output, {frame_of(image) for image in images})
    written, other_size = 0, 0
    for number, image in enumerate(images):
        try:
            labels = segmenter.predict(image).labels
        except FeathersegError as error:
            problem(str(error))
        else:
            atomic_write(output / f"{frame_of(image)}{SUFFIX}", png_bytes(label_ids_of(labels)))
            written += 1
            other_size += labels.shape != NATIVE_SIZE
        if progress:
            progress(number + 1, len(images))
    doubts = []
    if other_size:
        doubts.append(f"{other_size:,} images are not 2048 x 1024 pixels, which the server asks for")
    if whole in COUNTS and written != COUNTS[whole]:
        doubts.append(f"{written:,} label maps of split {whole!r}, which has {COUNTS[whole]:,} images")
    return Submission(written, len(images) - written, tuple(doubts))


def _must_have_cityscapes_classes(segmenter: Segmenter) -> None:
    if segmenter.labels.classes != CITYSCAPES19.classes:
        names = ", ".join(segmenter.labels.classes[:4])
        raise FeathersegError(
            f"{segmenter.name}: its {len(segmenter.labels)} classes ({names}, ...) are not the 19 of Cityscapes in the "
            "order of the train ids. Use weights trained on Cityscapes; import others with --classes-from a file of "
            "the names."
        )


def _refuse_other_pictures(output: Path, frames: set[str | None]) -> None:
    for path in sorted(output.rglob("*.png")) if output.is_dir() else ():
        frame = frame_of(path)
        if frame and path == output / f"{frame}{SUFFIX}" and frame not in frames:
            raise FeathersegError(
                f"{output}: holds {path.name}, a label map of an image that is not submitted now, and the server would "
                "get both. Choose an empty folder with -o."
            )
        if frame and path != output / f"{frame}{SUFFIX}":
            raise FeathersegError(
                f"{output}: holds {path.relative_to(output)}, which no submission wrote, and the server takes one PNG "
                "an image. Choose an empty folder with -o."
            )
