"""What is written for the Cityscapes benchmark: names, ids, sizes, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
from colour_network import colour_segmenter

from featherseg.data.images import read_mask
from featherseg.deploy import cityscapes_submission
from featherseg.deploy.cityscapes_submission import Submission, submission_images, write_submission
from featherseg.errors import FeathersegError
from featherseg.metrics.cityscapes_labels import LABEL_IDS
from mixed_network import mixed_segmenter


def write(arguments, output: Path, split: str = "test", problem=pytest.fail) -> Submission:
    return write_submission(mixed_segmenter(), arguments, output, split=split, problem=problem)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_root_gives_the_label_ids_of_its_test_split(cityscapes_tree, tmp_path) -> None:
    done = write([cityscapes_tree], tmp_path / "out")
    assert (done.written, done.failed) == (2, 0)
    assert names(tmp_path / "out") == [f"{city}_000000_000019_pred_labelIds.png" for city in ("berlin", "munich")]
    image = next(cityscapes_tree.glob("leftImg8bit/test/berlin/*.png"))
    expected = np.array(LABEL_IDS, np.uint8)[mixed_segmenter().predict(image).labels]
    written = read_mask(tmp_path / "out" / "berlin_000000_000019_pred_labelIds.png")
    np.testing.assert_array_equal(written, expected)
    assert len(np.unique(written)) > 5


def test_the_official_evaluation_finds_every_file(cityscapes_tree, tmp_path) -> None:
    script = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    write([cityscapes_tree], tmp_path, split="val")
    searched = script.CArgs()
    searched.predictionPath, searched.predictionWalk = str(tmp_path), None
    truths = sorted(cityscapes_tree.glob("gtFine/val/*/*_labelIds.png"))
    found = [Path(script.getPrediction(searched, str(truth))).name for truth in truths]
    assert found == [truth.name.replace("gtFine", "pred") for truth in truths]


def test_a_folder_of_images_gives_the_same_as_its_root(cityscapes_tree, tmp_path) -> None:
    write([cityscapes_tree], tmp_path / "root")
    write([cityscapes_tree / "leftImg8bit" / "test"], tmp_path / "folder")
    assert names(tmp_path / "root") == names(tmp_path / "folder")
    for name in names(tmp_path / "root"):
        assert (tmp_path / "root" / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()


def test_doubts_are_told(cityscapes_tree, tmp_path) -> None:
    assert write([cityscapes_tree], tmp_path).doubts == (
        "2 images are not 2048 x 1024 pixels, which the server asks for",
        "2 label maps of split 'test', which has 1,525 images",
    )


def test_images_of_the_native_size_raise_no_doubt(cityscapes_tree, tmp_path, monkeypatch) -> None:
    assert cityscapes_submission.NATIVE_SIZE == (1024, 2048)
    monkeypatch.setattr(cityscapes_submission, "NATIVE_SIZE", (64, 128))
    assert write([cityscapes_tree / "leftImg8bit" / "test" / "berlin"], tmp_path).doubts == ()


def test_a_second_run_writes_over_the_first(cityscapes_tree, tmp_path) -> None:
    assert write([cityscapes_tree], tmp_path) == write([cityscapes_tree], tmp_path)


def test_a_spoilt_image_is_told_and_the_others_are_done(cityscapes_copy, tmp_path) -> None:
    spoilt = next(cityscapes_copy.glob("leftImg8bit/test/berlin/*.png"))
    spoilt.write_bytes(b"no picture")
    problems: list[str] = []
    done = write([cityscapes_copy], tmp_path / "out", problem=problems.append)
    assert (done.written, done.failed) == (1, 1)
    assert str(spoilt) in problems[0]


def test_other_classes_are_refused(cityscapes_tree, tmp_path) -> None:
    with pytest.raises(FeathersegError, match=r"colours: its 4 classes .* are not the 19 of Cityscapes"):
        write_submission(colour_segmenter(), [cityscapes_tree], tmp_path / "out", problem=pytest.fail)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    [
        "photo.png",
        "berlin_0_19_leftImg8bit.png",
        "berlin_000000_leftImg8bit.png",
        "000000_000019.png",
        "berlin_000000_000019_gtFine_labelIds.png",
        "berlin_000000_000019_pred_labelIds.png",
    ],
)
def test_names_of_no_frame_are_refused(tmp_path, name) -> None:
    (tmp_path / name).touch()
    with pytest.raises(FeathersegError, match=rf"{name}: no name of a Cityscapes image"):
        submission_images([tmp_path], "test")


def test_a_frame_that_occurs_twice_is_refused(tmp_path) -> None:
    for name in ("berlin_000000_000019.png", "berlin_000000_000019_leftImg8bit.png"):
        (tmp_path / name).touch()
    with pytest.raises(FeathersegError, match="shows berlin_000000_000019, as"):
        submission_images([tmp_path], "test")


def test_a_missing_split_names_those_there_are(cityscapes_tree) -> None:
    with pytest.raises(FeathersegError, match=r"no images of split 'tset'.*test, train, train_extra, val.*'test'"):
        submission_images([cityscapes_tree], "tset")


@pytest.mark.parametrize("place", ["nowhere", "empty"])
def test_nothing_to_submit_is_said(tmp_path, place) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FeathersegError, match="Give a Cityscapes root"):
        submission_images([tmp_path / place], "test")


@pytest.mark.parametrize("name", ["berlin_000000_000019_color.png", "old/berlin_000000_000019_pred_labelIds.png"])
def test_a_folder_with_other_pictures_of_frames_is_refused(cityscapes_tree, tmp_path, name) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(FeathersegError, match="no submission wrote"):
        write([cityscapes_tree], tmp_path)


def test_a_folder_with_label_maps_of_another_split_is_refused(cityscapes_tree, tmp_path) -> None:
    write([cityscapes_tree], tmp_path, split="val")
    before = names(tmp_path)
    with pytest.raises(FeathersegError, match=r"frankfurt_000000_000019_pred_labelIds\.png, a label map of an image"):
        write([cityscapes_tree], tmp_path)
    assert names(tmp_path) == before
