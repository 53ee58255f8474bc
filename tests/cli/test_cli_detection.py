"""Detection on the command line, end to end on a miniature of street scenes."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from featherseg.cli.main import main
from featherseg.models.weights import read_metadata

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


def test_models_lists_detectors(capsys) -> None:
    assert main(["models", "--task", "detection", "--json"]) == 0
    listed = {row["model"]: row["parameters"] for row in json.loads(capsys.readouterr().out)}
    assert listed == {"pyramid_rpn": 2_786_424, "pyramid_rpn_multi": 1_894_701, "ssd300_vgg16": 23_745_908}
