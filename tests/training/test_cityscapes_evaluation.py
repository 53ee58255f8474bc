"""The judgement of a network and of label maps in files, against cityscapesscripts on the same predictions."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from featherseg.data.cityscapes import Cityscapes
from featherseg.deploy.cityscapes_submission import write_submission
from featherseg.errors import FeathersegError
from featherseg.metrics.cityscapes_labels import CATEGORIES, LABELS
from featherseg.training.cityscapes_evaluation import CityscapesJudge, CityscapesScores
from featherseg.training.cityscapes_files import judge_predictions, judge_submission, submission_sha256
from featherseg.training.evaluation import evaluate
from mixed_network import mixed_segmenter
from official_cityscapes import Official, official_scores


@pytest.fixture(scope="module")
def predictions(cityscapes_tree, tmp_path_factory) -> Path:
    """Label maps of val by the network that knows nothing, as a submission."""
    folder = tmp_path_factory.mktemp("predictions")
    write_submission(mixed_segmenter(), [cityscapes_tree], folder, split="val", problem=pytest.fail)
    return folder


def judged(root: Path) -> tuple[CityscapesJudge, CityscapesScores]:
    dataset = Cityscapes(root, "val")
    judge = CityscapesJudge(dataset)
    found = evaluate(mixed_segmenter().network, dataset, thorough=False, observe=judge.observe)
    return judge, judge.scores(found.confusion)


def assert_equal(scores: CityscapesScores, official: Official) -> None:
    ids = [label.name for label in LABELS]
    for ours, names, theirs in (
        (scores.class_iou, ids, official.classes),
        (scores.class_iiou, ids, official.class_instances),
        (scores.category_iou, CATEGORIES, official.categories),
        (scores.category_iiou, CATEGORIES, official.category_instances),
    ):
        np.testing.assert_allclose(ours, [theirs[name] for name in names], rtol=0, atol=1e-9)


def official_of(root: Path, folder: Path) -> Official:
    found = sorted(folder.glob("*.png"))
    truths = [next(root.glob(f"gtFine/val/*/{path.name.partition('_pred')[0]}_gtFine_labelIds.png")) for path in found]
    return official_scores(found, truths)


def test_a_network_is_judged_as_the_official_evaluation_judges_its_submission(cityscapes_tree, predictions) -> None:
    official = official_of(cityscapes_tree, predictions)
    assert sum(not np.isnan(score) for score in official.class_instances.values()) >= 6  # the tree has instances
    assert_equal(judged(cityscapes_tree)[1], official)


def test_label_maps_in_files_are_judged_as_the_official_evaluation_does(cityscapes_tree, predictions) -> None:
    assert_equal(
        judge_predictions(Cityscapes(cityscapes_tree, "val"), predictions), official_of(cityscapes_tree, predictions)
    )


def test_predictions_of_ids_that_are_not_judged_are_counted_as_the_official_evaluation_does(
    cityscapes_tree,
    predictions,
    tmp_path,
) -> None:
    random = np.random.default_rng(0)
    for path in predictions.glob("*.png"):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        other = random.random(ids.shape) < 0.3
        ids[other] = random.integers(0, 34, int(other.sum()))
        cv2.imwrite(str(tmp_path / path.name), ids)
    assert_equal(
        judge_predictions(Cityscapes(cityscapes_tree, "val"), tmp_path), official_of(cityscapes_tree, tmp_path)
    )


def test_labels_decide_the_classes_where_instances_contradict_them(cityscapes_copy, predictions) -> None:
    """A car drawn over rows of whatever the labels have there."""
    path = next(cityscapes_copy.glob("gtFine/val/munster/*_instanceIds.png"))
    instances = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    instances[20:40] = 26001
    cv2.imwrite(str(path), instances)
    official = official_of(cityscapes_copy, predictions)
    assert_equal(judge_predictions(Cityscapes(cityscapes_copy, "val"), predictions), official)
    assert_equal(judged(cityscapes_copy)[1], official)


def test_without_an_instance_file_iou_still_comes_and_iiou_says_so(cityscapes_copy, cityscapes_tree) -> None:
    gone = next(cityscapes_copy.glob("gtFine/val/munster/*_instanceIds.png"))
    gone.unlink()
    judge, scores = judged(cityscapes_copy)
    whole = judged(cityscapes_tree)[1]
    np.testing.assert_array_equal(scores.class_iou, whole.class_iou)
    np.testing.assert_array_equal(scores.category_iou, whole.category_iou)
    assert np.isnan(scores.class_iiou).all()
    assert np.isnan(scores.category_iiou).all()
    assert f"1 of 3 images have no instanceIds file, first {gone.name}" in str(judge.missing())


def test_nothing_is_said_of_instances_that_are_all_there(cityscapes_tree) -> None:
    assert judged(cityscapes_tree)[0].missing() is None


@pytest.mark.parametrize(
    ("instances", "told"),
    [
        (np.zeros((64, 127), np.uint16), "127 x 64 pixels, but their label is 128 x 64"),
        (np.full((64, 128), 34_000, np.uint16), r"34000 \(8192 pixels\)"),
        (np.full((64, 128), 7_001, np.uint16), "'road' has no instances"),
    ],
)
def test_spoilt_instances_are_refused_by_name(cityscapes_copy, instances, told) -> None:
    path = next(cityscapes_copy.glob("gtFine/val/munster/*_instanceIds.png"))
    cv2.imwrite(str(path), instances)
    with pytest.raises(FeathersegError, match=f"{path.name}.*{told}"):
        judged(cityscapes_copy)


def test_label_maps_are_judged_by_iou_alone_where_an_instance_file_is_absent(cityscapes_copy, predictions) -> None:
    whole = judge_predictions(Cityscapes(cityscapes_copy, "val"), predictions)
    next(cityscapes_copy.glob("gtFine/val/munster/*_instanceIds.png")).unlink()
    part = judge_predictions(Cityscapes(cityscapes_copy, "val"), predictions)
    np.testing.assert_array_equal(part.class_iou, whole.class_iou)
    np.testing.assert_array_equal(part.category_iou, whole.category_iou)
    assert np.isnan(part.class_iiou).all()


def test_plain_iou_reads_no_instances(cityscapes_copy, predictions) -> None:
    whole = judge_predictions(Cityscapes(cityscapes_copy, "val"), predictions)
    for path in cityscapes_copy.glob("gtFine/val/*/*_instanceIds.png"):
        path.write_bytes(b"spoilt")
    plain = judge_predictions(Cityscapes(cityscapes_copy, "val"), predictions, instances=False)
    np.testing.assert_array_equal(plain.class_iou, whole.class_iou)


def test_the_number_of_workers_changes_no_bit(cityscapes_tree, predictions) -> None:
    dataset = Cityscapes(cityscapes_tree, "val")
    seen: list[tuple[int, int]] = []
    one = judge_predictions(dataset, predictions, workers=1, progress=lambda *done: seen.append(done))
    three = judge_predictions(dataset, predictions, workers=3)
    assert one.class_iiou.tobytes() == three.class_iiou.tobytes()
    assert seen == [(1, 3), (2, 3), (3, 3)]


def spoil_missing(folder: Path) -> None:
    next(folder.glob("munster*")).unlink()


def spoil_twice(folder: Path) -> None:
    path = next(folder.glob("munster*"))
    path.with_name(path.name.replace("pred", "again")).write_bytes(path.read_bytes())


def spoil_size(folder: Path) -> None:
    cv2.imwrite(str(next(folder.glob("munster*"))), np.zeros((3, 4), np.uint8))


def spoil_split(folder: Path) -> None:
    path = next(folder.glob("munster*"))
    path.with_name("berlin_000000_000019_pred_labelIds.png").write_bytes(path.read_bytes())


def spoil_other_split(folder: Path) -> None:
    for path in sorted(folder.glob("*.png")):
        path.rename(path.with_name(f"ulm-{path.name}"))


def spoil_name(folder: Path) -> None:
    (folder / "notes.png").touch()


def spoil_ids(folder: Path) -> None:
    cv2.imwrite(str(next(folder.glob("munster*"))), np.full((64, 128), 200, np.uint8))


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (spoil_missing, "no prediction of munster_000000_000019"),
        (spoil_twice, "is a prediction of munster_000000_000019 too"),
        (spoil_split, r"holds berlin_000000_000019_pred_labelIds\.png, of no image of split 'val'\. Move them out"),
        (spoil_other_split, r"no prediction of frankfurt.* and 2 others.*It holds ulm-frankfurt.*Predict the whole"),
        (spoil_name, r"holds notes\.png, of no image"),
        (spoil_size, "the prediction is 4 x 3 pixels"),
        (spoil_ids, r"200.*Write label ids \(0\.\.33\)"),
    ],
)
def test_predictions_that_cannot_be_judged_are_refused(cityscapes_tree, predictions, tmp_path, spoil, told) -> None:
    for path in predictions.glob("*.png"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoil(tmp_path)
    with pytest.raises(FeathersegError, match=told):
        judge_predictions(Cityscapes(cityscapes_tree, "val"), tmp_path)


def test_a_folder_that_is_not_there_is_refused(cityscapes_tree, tmp_path) -> None:
    with pytest.raises(FeathersegError, match="no such folder"):
        judge_predictions(Cityscapes(cityscapes_tree, "val"), tmp_path / "nowhere")


def test_a_submission_has_the_figures_of_its_network(cityscapes_tree, predictions) -> None:
    dataset = Cityscapes(cityscapes_tree, "val")
    judge = CityscapesJudge(dataset)
    found = evaluate(mixed_segmenter().network, dataset, thorough=False, observe=judge.observe)
    network = found.figures() | judge.scores(found.confusion).figures()
    files = judge_submission(dataset, predictions)
    assert files.pop("protocol") == "cityscapes19/128x64/predictions→val, 2 of 3 cities"
    assert files.pop("iiou_missing") is None
    assert files == {name: network[name] for name in files}
    assert {"miou", "miou_interval_95", "iou", "class_iiou", "category_iiou", "pixel_accuracy"} < set(files)


def test_a_submission_of_ids_that_are_not_judged_has_no_interval(cityscapes_tree, predictions, tmp_path) -> None:
    for path in predictions.glob("*.png"):
        ids = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        ids[:, ::7] = 29
        cv2.imwrite(str(tmp_path / path.name), ids)
    figures = judge_submission(Cityscapes(cityscapes_tree, "val"), tmp_path)
    official = official_of(cityscapes_tree, tmp_path)
    assert figures["miou_interval_95"] == [None, None]
    assert figures["miou"] == pytest.approx(100 * official.averages[0], abs=1e-4)
    assert figures["class_iiou"] == pytest.approx(100 * official.averages[1], abs=1e-4)


def test_the_hash_of_a_submission_is_that_of_its_label_maps(cityscapes_tree, predictions, tmp_path) -> None:
    dataset = Cityscapes(cityscapes_tree, "val")
    for path in predictions.glob("*.png"):
        (tmp_path / path.name.replace("_pred_labelIds", "_mine")).write_bytes(path.read_bytes())
    before = submission_sha256(dataset, predictions)
    assert submission_sha256(dataset, tmp_path) == before
    spoil_size(tmp_path)
    assert submission_sha256(dataset, tmp_path) != before
