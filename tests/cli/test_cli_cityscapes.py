"""The commands on a Cityscapes folder."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from featherseg.cards import read_card
from featherseg.cli.main import main
from featherseg.data.labels import CITYSCAPES19
from featherseg.models.registry import create_model
from featherseg.models.weights import describe_network, save_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """fassd_net_l2 with fresh weights and Cityscapes' classes."""
    torch.manual_seed(0)
    network = create_model("fassd_net_l2", len(CITYSCAPES19))
    about = describe_network(network, "fassd_net_l2", len(CITYSCAPES19)) | {
        "classes": list(CITYSCAPES19.classes),
        "task": "segmentation",
    }
    return save_weights(tmp_path_factory.mktemp("weights") / "fresh.safetensors", network.state_dict(), about)


@pytest.fixture
def run(capsys):
    """Run a command; its exit code, stdout and stderr."""

    def called(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return called


def test_eval_gives_the_official_scores_as_json_and_card(run, weights, cityscapes_tree, tmp_path) -> None:
    card = tmp_path / "card.json"
    code, out, _ = run("eval", "-w", weights, "--data", cityscapes_tree, "--split", "val", "--json", "--card", card)
    figures = json.loads(out)
    assert code == 0
    for name, parts in (("class_iiou", "class_iiou_per_class"), ("category_iou", "category_iou_per_category")):
        scores = [score for score in figures[parts].values() if score is not None]
        assert figures[name] == pytest.approx(sum(scores) / len(scores), abs=1e-3)
    assert set(figures["category_iiou_per_category"]) == {"human", "vehicle"}
    assert figures["iiou_missing"] is None
    written = read_card(card)
    assert written["figures"]["category_iiou"] == figures["category_iiou"]
    assert "no iIoU" not in written["notes"]


def test_eval_of_a_part_of_the_official_split_says_so_everywhere(run, weights, cityscapes_tree, tmp_path) -> None:
    card = tmp_path / "card.json"
    code, out, told = run("eval", "-w", weights, "--data", cityscapes_tree, "--split", "val", "--json", "--card", card)
    figures, written, words = json.loads(out), read_card(card), "no images of lindau; 3 images instead of 500"
    assert code == 0
    assert figures["protocol"] == written["protocol"] == "cityscapes19/128x64/unknown→val, 2 of 3 cities"
    for text in (told, figures["shortfall"], written["notes"]):
        assert words in text


def test_training_on_a_part_of_the_official_splits_says_so(run, small_recipe, cityscapes_tree, tmp_path) -> None:
    source = f"data.source={cityscapes_tree}"
    code, _, told = run("train", small_recipe, source, "train.steps=1", "--output", tmp_path)
    written = read_card(tmp_path / "small" / "card.json")
    assert code == 0
    assert written["protocol"].endswith("→val, 2 of 3 cities")
    for words in ("no images of bochum, bremen", "no images of lindau; 3 images instead of 500"):
        assert words in told
        assert words in written["notes"]


def test_balancing_on_a_part_of_the_official_split_says_so(run, weights, cityscapes_tree, tmp_path) -> None:
    out = tmp_path / "balanced.safetensors"
    _, shown, told = run("balance", "-w", weights, "--data", cityscapes_tree, "-o", out, "--json")
    assert "no images of lindau" in told
    assert json.loads(shown)["data"] == "cityscapes19/128x64/val, 2 of 3 cities"


def test_eval_shows_the_official_scores_to_a_person(run, weights, cityscapes_tree) -> None:
    _, out, _ = run("eval", "-w", weights, "--data", cityscapes_tree, "--split", "val")
    for words in ("iIoU, %", "class iIoU", "category IoU", "category iIoU"):
        assert words in out


def test_eval_without_an_instance_file_says_so_everywhere(run, weights, cityscapes_copy, tmp_path) -> None:
    next(cityscapes_copy.glob("gtFine/val/munster/*_instanceIds.png")).unlink()
    card = tmp_path / "card.json"
    arguments = ("eval", "-w", weights, "--data", cityscapes_copy, "--split", "val", "--card", card)
    figures = json.loads(run(*arguments, "--json")[1])
    assert figures["class_iiou"] is figures["category_iiou"] is None
    assert figures["category_iou"] is not None
    assert figures["miou"] is not None
    assert "1 of 3 images have no instanceIds file" in figures["iiou_missing"]
    assert "1 of 3 images have no instanceIds file" in run(*arguments)[1]
    notes = read_card(card)["notes"]
    assert "no iIoU" in notes
    assert "no images of lindau" in notes


def test_eval_of_coarse_labels_is_no_official_judgement(run, weights, cityscapes_tree) -> None:
    figures = json.loads(
        run("eval", "-w", weights, "--data", cityscapes_tree / "gtCoarse", "--split", "val", "--json")[1]
    )
    assert "class_iiou" not in figures
    assert figures["protocol"].startswith("cityscapes19-coarse/")


def test_eval_of_withheld_labels_says_that_there_is_nothing_to_judge_by(run, weights, cityscapes_tree) -> None:
    code, out, told = run("eval", "-w", weights, "--data", cityscapes_tree, "--json")
    assert code == 0
    assert json.loads(out)["miou"] is None
    assert "ignore throughout" in told


def test_check_names_the_data_set_and_says_what_is_missing(run, cityscapes_tree, tmp_path) -> None:
    code, out, _ = run("check", "cityscapes", cityscapes_tree)
    assert code == 1
    assert "no images of bochum, bremen, cologne" in out
    code, out, _ = run("check", "cityscapes", tmp_path)
    assert code == 1
    assert "leftImg8bit_trainvaltest.zip" in out


def test_predict_writes_a_submission(run, weights, cityscapes_tree, tmp_path) -> None:
    code, out, told = run("predict", cityscapes_tree, "-w", weights, "-o", tmp_path, "--submission", "cityscapes")
    assert code == 0
    assert "2 label maps" in out
    assert "1,525 images" in told
    assert len(list(tmp_path.iterdir())) == 2


@pytest.fixture
def submitted(run, weights, cityscapes_tree, tmp_path) -> Path:
    """The label maps of val, as `predict --submission` writes them."""
    folder = tmp_path / "submitted"
    arguments = ("-w", weights, "-o", folder, "--submission", "cityscapes", "--split", "val")
    assert run("predict", cityscapes_tree, *arguments)[0] == 0
    return folder


def test_a_submission_is_judged_as_the_weights_that_wrote_it(
    run, weights, cityscapes_tree, submitted, tmp_path
) -> None:
    data, card = ("--data", cityscapes_tree, "--split", "val", "--json"), tmp_path / "card.json"
    network = json.loads(run("eval", "-w", weights, *data)[1])
    code, out, told = run("eval", "--submission", submitted, *data, "--card", card)
    files, written = json.loads(out), read_card(card)
    assert code == 0
    own = {"protocol", "submission", "submission_sha256"}
    assert {name: files[name] for name in set(files) - own} == {name: network[name] for name in set(files) - own}
    assert files["miou"] is not None
    assert files["protocol"] == written["protocol"] == "cityscapes19/128x64/predictions→val, 2 of 3 cities"
    assert written["figures"]["class_iiou"] == files["class_iiou"]
    assert (written["submission"], written["submission_sha256"]) == ("submitted", files["submission_sha256"])
    assert "no images of lindau" in told
    assert "no images of lindau" in written["notes"]


def test_the_judgement_of_a_submission_is_shown_to_a_person(run, cityscapes_tree, submitted) -> None:
    code, out, _ = run("eval", "--submission", submitted, "--data", cityscapes_tree, "--split", "val")
    assert code == 0
    for words in ("predictions→val", "iIoU, %", "class iIoU", "category IoU", "mIoU"):
        assert words in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--data", "streets"), "judges label maps of Cityscapes"),
        (("--data", "TREE/gtCoarse", "--split", "val"), "by its fine labels"),
        (("--data", "TREE", "--split", "vla"), "did you mean 'val'"),
        (("--data", "TREE", "--split", "val"), "no prediction of frankfurt_000000_000019 and 2 others"),
        (("--data", "TREE", "--split", "val", "--flip"), "--flip: --submission judges files"),
        (("--data", "TREE", "-w", "x"), "--weights: --submission judges files"),
    ],
)
def test_submissions_that_cannot_be_judged_are_refused(run, cityscapes_tree, tmp_path, arguments, told) -> None:
    given = [str(argument).replace("TREE", str(cityscapes_tree)) for argument in arguments]
    code, _, shown = run("eval", "--submission", tmp_path, *given)
    assert code == 2
    assert told in shown


def test_eval_of_nothing_says_what_to_give(run, cityscapes_tree) -> None:
    code, _, shown = run("eval", "--data", cityscapes_tree)
    assert code == 2
    assert "Give --weights, or --submission" in shown


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--submission", "kitti"), "There is: cityscapes"),
        (("--submission", "cityscapes", "--split", "x"), "no images"),
        (("--split", "val"), "--split goes with --submission"),
    ],
)
def test_wrong_submissions_are_refused(run, weights, cityscapes_tree, tmp_path, arguments, told) -> None:
    code, _, shown = run("predict", cityscapes_tree, "-w", weights, "-o", tmp_path / "out", *arguments)
    assert code == 2
    assert told in shown


def test_a_submission_of_other_classes_is_refused(run, small_weights, cityscapes_tree, tmp_path) -> None:
    code, _, shown = run(
        "predict", cityscapes_tree, "-w", small_weights, "-o", tmp_path / "out", "--submission", "cityscapes"
    )
    assert code == 2
    assert "not the 19 of Cityscapes" in shown


def test_a_spoilt_image_makes_the_exit_code_of_a_submission_2(run, weights, cityscapes_copy, tmp_path) -> None:
    next(cityscapes_copy.glob("leftImg8bit/test/berlin/*.png")).write_bytes(b"")
    shutil.rmtree(cityscapes_copy / "gtFine")  # a submission needs no labels
    code, out, _ = run("predict", cityscapes_copy, "-w", weights, "-o", tmp_path / "out", "--submission", "cityscapes")
    assert code == 2
    assert "1 label map in" in out
