"""Detection on the command line, end to end on a miniature of street scenes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherseg.cli.main import main
from featherseg.models.weights import read_metadata
from featherseg.training.log import read_log

SMALL = [
    "model.arguments={trunk: mobilenet_v2}",
    "data.size=[96,160]",
    "data.count=4",
    "data.val_count=2",
    "augment.crop=[96,160]",
    "train.epochs=null",
    "train.steps=3",
    "train.batch_size=2",
    "train.precision=fp32",
    "train.workers=0",
    "train.threads=1",
    "train.device=cpu",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    runs = tmp_path_factory.mktemp("runs")
    assert main(["train", "streets_pyramid_rpn", *SMALL, "--output", str(runs)]) == 0
    return runs / "streets_pyramid_rpn"


def test_a_training_leaves_weights_a_card_and_a_report(run: Path) -> None:
    assert {"weights.safetensors", "card.json", "report.html", "recipe.yaml"} <= {path.name for path in run.iterdir()}
    card = json.loads((run / "card.json").read_text())
    assert set(card["figures"]["ap"]["Car"]) == {"ap11", "ap40", "boxes"}
    assert "KITTI 2D AP" in card["protocol"]
    about = read_metadata(run / "weights.safetensors")
    assert (about["task"], about["classes"], about["architecture"]) == ("detection", ["Car"], "pyramid_rpn")


def test_a_finished_training_that_is_resumed_stays_as_it_is(run: Path) -> None:
    before = (run / "weights.safetensors").read_bytes()
    assert main(["train", str(run / "recipe.yaml"), "--resume", "--output", str(run.parent)]) == 0
    assert (run / "weights.safetensors").read_bytes() == before


def test_the_recipe_trains_its_own_trunk(tmp_path: Path) -> None:
    """The others here take a plain one, which takes less time."""
    settings = [setting for setting in SMALL if not setting.startswith("model.arguments")]
    assert main(["train", "streets_pyramid_rpn", *settings, "--output", str(tmp_path)]) == 0
    about = read_metadata(tmp_path / "streets_pyramid_rpn/weights.safetensors")
    assert about["arguments"]["trunk_arguments"] == {"rates": "capped"}
    losses = [entry["loss"] for entry in read_log(tmp_path / "streets_pyramid_rpn") if "loss" in entry]
    assert losses
    assert np.isfinite(losses).all()


def test_eval_prints_average_precision_and_writes_a_card(run: Path, tmp_path: Path, capsys) -> None:
    weights = str(run / "weights.safetensors")
    # The miniature's scenes; 100 of them would take too long.
    assert (
        main(["eval", "-w", weights, "--data", "streets", "--split", "val", "--json", "--card", str(tmp_path / "c")])
        == 0
    )
    figures = json.loads(capsys.readouterr().out)
    assert {"score", "ap", "map11", "protocol", "weights_sha256", "data_fingerprint"} <= set(figures)
    assert figures["protocol"].startswith("streets-car/160x96/train→val")
    assert json.loads((tmp_path / "c").read_text())["model"] == "pyramid_rpn"


def test_predict_writes_boxes_kittis_file_and_a_picture(run: Path, tmp_path: Path, capsys) -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 130, 3)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), image)
    weights, output = str(run / "weights.safetensors"), tmp_path / "out"
    assert main(["predict", str(tmp_path / "photo.png"), "--task", "detect", "-w", weights, "-o", str(output)]) == 0
    assert sorted(path.name for path in output.iterdir()) == ["photo.json", "photo.txt", "photo_boxes.jpg"]
    assert len(json.loads((output / "photo.json").read_text())["boxes"]) == len(
        (output / "photo.txt").read_text().splitlines()
    )
    assert "1 image searched" in capsys.readouterr().out
    assert main(["predict", str(tmp_path / "photo.png"), "--task", "detect", "-w", weights, "-o", str(output)]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eval", "--data", "streets", "--split", "vall"], "no split 'vall'"),
        (["eval", "--data", "streets", "--split", "val", "--flip"], "--flip is not for detectors"),
        (["predict", "x.png", "--task", "segment", "-o", "out"], "does detection. Choose --task detect"),
    ],
)
def test_wrong_use_gets_one_line(
    run: Path, arguments: list[str], said: str, capsys, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "-w", str(run / "weights.safetensors")]) == 2
    assert said in capsys.readouterr().err


def test_eval_paints_as_many_scenes_as_are_asked_for(run: Path, capsys) -> None:
    weights = str(run / "weights.safetensors")
    assert main(["eval", "-w", weights, "--data", "streets", "--split", "test", "--count", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3


CAR = "Car 0.00 0 -1.57 10.00 10.00 110.00 60.00 1.5 1.6 3.9 1.0 1.6 20.0 -1.5\n"


@pytest.fixture
def result_files(tmp_path: Path) -> tuple[Path, Path]:
    """A KITTI folder of two images with a car each, and result files that find both of them exactly."""
    for key in ("000000", "000001"):
        for name, content in (("label_2", CAR), ("results", CAR.replace(" -1.5\n", " -1.5 0.9\n"))):
            folder = tmp_path / "found" if name == "results" else tmp_path / "kitti/training" / name
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{key}.txt").write_text(content)
        (tmp_path / "kitti/training/image_2").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"kitti/training/image_2/{key}.png"), np.zeros((80, 120, 3), np.uint8))
    return tmp_path / "kitti", tmp_path / "found"


def test_kittis_result_files_are_judged_without_a_network(result_files: tuple[Path, Path], capsys) -> None:
    data, found = result_files
    command = ["eval", "--submission", str(found), "--data", str(data), "--split", "trainval"]
    assert main([*command, "--card", str(found.parent / "card.json")]) == 0
    shown = capsys.readouterr().out
    assert "kitti-car/mixed/files→trainval, KITTI 2D AP" in shown
    card = json.loads((found.parent / "card.json").read_text())
    # Of two cars that are found without a false alarm: every point of recall that is reached has a precision of 1.
    assert card["figures"]["ap"]["Car"]["ap11"]["easy"] > 0
    assert card["figures"]["ap"]["Car"]["boxes"] == {"easy": 2, "moderate": 2, "hard": 2}
    assert card["weights"] == "result files in found"


def name_detections(folder: Path, *names: str) -> None:
    """Write what is found in each image once for each of ``names``."""
    for file in folder.glob("*.txt"):
        line = file.read_text().split(" ", 1)[1]
        file.write_text("".join(f"{name} {line}" for name in names))


def test_result_files_of_vehicles_are_judged_for_vehicles(result_files: tuple[Path, Path], capsys) -> None:
    data, found = result_files
    name_detections(found, "vehicle")
    assert main(["eval", "--submission", str(found), "--data", str(data), "--split", "trainval", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["protocol"].startswith("kitti-vehicle/")
    assert list(figures["ap"]) == ["vehicle"]
    assert figures["ap"]["vehicle"]["ap11"]["easy"] > 0


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("vehicle", "Car"), "names vehicle beside Car"),
        (("Tram", "Misc"), "names Misc, Tram alone, and none of that is judged"),
    ],
)
def test_result_files_that_cannot_be_judged_are_refused(
    result_files: tuple[Path, Path], names: tuple[str, ...], said: str, capsys
) -> None:
    data, found = result_files
    name_detections(found, *names)
    assert main(["eval", "--submission", str(found), "--data", str(data), "--split", "trainval"]) == 2
    assert said in capsys.readouterr().err


def test_detections_that_are_not_judged_are_told(result_files: tuple[Path, Path], capsys) -> None:
    data, found = result_files
    name_detections(found, "Car", "Van")
    assert main(["eval", "--submission", str(found), "--data", str(data), "--split", "trainval"]) == 0
    assert "2 detections are of Van, which is not judged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "000001.txt").unlink(), "have no result file, 000001.txt among them"),
        (lambda folder: (folder / "000001.txt").write_text(CAR), "without a score this is a label file"),
        (
            lambda folder: (folder / "000001.txt").write_text(CAR.strip() + " nan\n"),
            "line 1: the field 'score' is 'nan', not a number",
        ),
    ],
)
def test_spoilt_result_files_get_one_line(result_files: tuple[Path, Path], spoil, said: str, capsys) -> None:
    data, found = result_files
    spoil(found)
    assert main(["eval", "--submission", str(found), "--data", str(data), "--split", "trainval"]) == 2
    assert said in capsys.readouterr().err


def test_a_count_is_of_detectors(small_weights: Path, small_data: Path, capsys) -> None:
    assert main(["eval", "-w", str(small_weights), "--data", str(small_data), "--count", "3"]) == 2
    assert "--count is of detectors" in capsys.readouterr().err


def test_models_lists_detectors(capsys) -> None:
    assert main(["models", "--task", "detection", "--json"]) == 0
    listed = {row["model"]: row["parameters"] for row in json.loads(capsys.readouterr().out)}
    assert listed == {"pyramid_rpn": 2_786_424, "pyramid_rpn_multi": 1_894_701, "ssd300_vgg16": 23_745_908}
